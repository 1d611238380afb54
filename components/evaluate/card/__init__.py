"""The model card: what the gate saw, as a page."""
