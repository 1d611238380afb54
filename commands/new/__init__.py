"""The command `slipway new`: a component that looks like Slipway's own."""
