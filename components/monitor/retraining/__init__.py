"""Retraining: whether a decayed model is trained anew, and the run that does it."""
