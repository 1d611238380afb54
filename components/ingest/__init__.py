"""Ingest: a window of source tables becomes a dataset with a manifest."""
