"""Where boxes stand and lines run: engines in child processes, and a layout of our own."""
