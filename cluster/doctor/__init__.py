"""`slipway doctor`: examines a cluster before anything is sent."""
