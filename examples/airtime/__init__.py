"""The airtime example: a number with its interval."""
