"""Training on several devices and several nodes."""
