"""Sureset: pictures in, guaranteed answers out."""

__version__ = "0.1.0"
