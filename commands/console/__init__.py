"""What the commands write: the help, lines for a person, and what is seen of a run."""
