"""Renderers: convert a story to text or bytes, one file per format. They write no files."""
