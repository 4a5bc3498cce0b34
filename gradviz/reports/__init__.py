"""Reports on a graph that explain nothing: the memory kept for backward, and the modules."""
