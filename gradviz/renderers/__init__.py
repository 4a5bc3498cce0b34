"""Renderers: from a story to text or bytes, one file for each format. They write no files."""
