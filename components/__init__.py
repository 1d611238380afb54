"""The collection: one folder a stage, and the contracts between them."""
