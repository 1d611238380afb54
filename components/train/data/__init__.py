"""The training data: tables as tensors, and where the rows of a step come from."""
