"""Record a program while it runs: events, untracked tensors, frames."""
