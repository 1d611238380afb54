"""Features that a request leaves out, from the online store; the transformer before a predictor."""
