"""What a stage asks the Kubernetes API, and what it knows of its own pod."""
