"""What `slipway init` makes of tables: facts, then guesses with their reasons, then a project."""
