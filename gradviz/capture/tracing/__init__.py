"""From live tensors to a `GradGraph`: the walk, the reading, and letting go."""
