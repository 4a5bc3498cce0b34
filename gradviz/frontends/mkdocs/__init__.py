"""gradviz in MkDocs: a fence for Python-Markdown, whose code is run and drawn.

``pymdownx.superfences`` calls `markdown_options` with the options of a fence, and then
`markdown_fence` with its code.
"""

from gradviz.frontends.mkdocs.fence import markdown_fence, markdown_options

__all__ = ["markdown_fence", "markdown_options"]
