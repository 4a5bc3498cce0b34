"""Layout: Graphviz in a child process, or the layered layout of gradviz."""
