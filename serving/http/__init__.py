"""HTTP/1.1: the connection, and the types of ASGI."""
