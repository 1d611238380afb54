"""Retraining: whether to retrain a decayed model, and the run that does it."""
