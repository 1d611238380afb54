"""The libraries beside us: what is installed, what is missing, and what loads slowly."""
