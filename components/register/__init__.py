"""Register: a version with its evidence, only after a pass."""
