"""What lies in Feast: the registry, and the rows of the online store."""
