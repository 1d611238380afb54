"""Evaluate: metrics on the test part, and the verdict that gates."""
