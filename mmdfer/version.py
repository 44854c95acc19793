"""Define the version of the package, which setup.py reads without importing the package."""

__version__ = '0.2.0'
