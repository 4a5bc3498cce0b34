"""Reports on a graph: the memory saved for backward, and the modules."""
