"""The inference log: written by the predictor, shipped to a store."""
