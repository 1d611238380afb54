"""The rows of each feature view: aggregates and expressions over a dataset's tables."""
