"""The `slipway` command: a module a group of commands, and its console."""
