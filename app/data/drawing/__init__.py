"""Drawn vehicles: the pictures of the sample set."""
