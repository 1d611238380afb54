"""Rows wherever they are computed: their keys, their hash, and how a model runs over them."""
