"""Intercept the program's calls of torch's functions."""
