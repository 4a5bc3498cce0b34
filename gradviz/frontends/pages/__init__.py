"""Code on a page of documentation, run and drawn: what Sphinx and MkDocs share."""
