"""Validate: every row against the schema; bad rows set apart with reasons."""
