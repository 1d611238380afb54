"""What of a project's past is deleted: its log, versions and MLflow runs, and its runs on Kubeflow."""
