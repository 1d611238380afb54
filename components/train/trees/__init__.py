"""Boosted trees beside the network, and both as one model."""
