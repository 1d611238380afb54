"""Train: a PyTorch tabular model, exported with its preprocessing inside."""
