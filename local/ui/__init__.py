"""The read-only page of what local runs left."""
