"""Fuzz targets of whatever a stranger may send or hand over, laid out for OSS-Fuzz."""
