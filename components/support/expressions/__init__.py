"""Expressions of the project file: a small typed language, computed alike wherever a value is made."""
