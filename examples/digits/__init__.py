"""The digits example: several classes, rows without a time and without a key."""
