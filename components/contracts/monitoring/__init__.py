"""What an endpoint is watched by: its log, the reference, and the record of each window."""
