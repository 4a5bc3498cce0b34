"""Convert live tensors to a `GradGraph`: walk the graph, read it, and make it safe to drop."""
