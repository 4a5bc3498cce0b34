"""Reads and observes torch's autograd: the only place that uses its private names."""
