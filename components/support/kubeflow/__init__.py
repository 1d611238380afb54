"""The Kubeflow Pipelines API: where it is, requests that end, and what is asked of it."""
