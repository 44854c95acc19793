"""Provide parts of published methods, written from the authors' code and not from this package."""
