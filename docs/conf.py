"""The site: pages in Markdown, pictures by gradviz' own directive."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from gradviz import __version__

os.environ.setdefault("GRADVIZ_ENGINE", "layered")  # the same pictures on every machine

project = "gradviz"
author = "The gradviz contributors"
copyright = author
release = version = __version__

extensions = [
    "gradviz",
    "myst_parser",
    "sphinx_design",
    "sphinx_click",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_examples",
    "house_docstrings",
    "verdict_pages",
]
exclude_patterns = ["_build", "verdicts"]
smartquotes = False  # an option has two dashes
nitpicky = True
nitpick_ignore = [("py:class", "networkx.MultiDiGraph")]
default_role = "any"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what an argument is, the signature its type

html_theme = "furo"
html_title = "gradviz"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "top_of_page_buttons": [],
    "dark_css_variables": {  # the colors of the pictures, so that no box is visible around them
        "color-background-primary": "#0d1117",
        "color-background-secondary": "#12171f",
        "color-background-hover": "#1c2330",
        "color-background-border": "#262d38",
        "color-card-background": "#0d1117",
        "color-card-border": "#262d38",
        "color-card-marginals-background": "#161b22",
        "color-code-background": "#161b22",
        "color-foreground-primary": "#e6edf3",
        "color-foreground-secondary": "#a7b0bb",
        "color-foreground-muted": "#8b949e",
    },
}
pygments_dark_style = "github-dark"
