"""Torch's autograd, read without touching it: the one place that knows its private names."""
