"""What the tables of `slipway init` hold, before anything is decided."""
