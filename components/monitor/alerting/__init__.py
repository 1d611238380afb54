"""Alerts: the rules that raise them, and the routes that tell people."""
