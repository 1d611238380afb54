"""The formats that a source comes in, a module each, and how columns of text get their types."""
