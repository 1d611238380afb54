"""Target `local`: a supervised predictor on this machine."""
