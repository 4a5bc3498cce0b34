"""Tensors as plain facts: which were passed, their names, their values."""
