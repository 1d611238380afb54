"""Events that are pushed to the online store between two materialisations."""
