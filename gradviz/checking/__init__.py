"""Autograd's gradients held against the numbers."""
