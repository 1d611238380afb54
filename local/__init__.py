"""A run on this machine: the runner, containers, the workspace, requests."""
