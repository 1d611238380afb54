"""The tumours example: a table without time, and errors that cost more than others."""
