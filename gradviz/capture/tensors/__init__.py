"""Tensors as plain facts: what was asked for, what it is called, its numbers."""
