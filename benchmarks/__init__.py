"""One script a hot path, side by side with what a user would pick instead."""
