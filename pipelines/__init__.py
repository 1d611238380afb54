"""The pipelines' wiring, and the slipway command."""
