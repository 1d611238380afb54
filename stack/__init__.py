"""The platform under a project, rendered from the choices in its file."""
