"""What every stage leans on: files, errors, stage events, the environment, clients."""
