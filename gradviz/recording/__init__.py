"""Watching a program while it runs: events, ghosts, frames."""
