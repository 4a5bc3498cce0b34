"""Tensors as plain data: finding them in arguments, their names, their values."""
