"""Features: point-in-time joins through Feast, split by time, online store."""
