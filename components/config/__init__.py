"""The sections of the project file."""
