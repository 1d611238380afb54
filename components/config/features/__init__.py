"""The section `features`: its views, its label, its split, and what it may not ask for."""
