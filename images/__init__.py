"""How the images are planned, built and pushed: standard library only, for CI without a set-up."""
