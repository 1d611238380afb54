"""What is done on a real Kubeflow: upload, submit, follow, schedule, compare, examine."""
