"""Rows wherever they are computed: their keys, their hash, how they travel and how a model runs over them."""
