"""The process that runs a compiled pipeline on this machine, and the containers and stages it starts."""
