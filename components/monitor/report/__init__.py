"""What people see of a window: its page, and Evidently's beside it."""
