"""What Sphinx is told about gradviz: a directive, a node, settings."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from gradviz import __version__
from gradviz.frontends.sphinx.directive import GradvizDirective
from gradviz.frontends.sphinx.picture import DrawPictures, picture, skip

__all__ = ["register"]

_PRE_CODE = "import torch\nimport gradviz\n"


def register(app: Sphinx) -> dict[str, Any]:
    """Register everything; returns what Sphinx wants to know of an extension."""
    app.add_config_value("gradviz_theme", "auto", "html", (str,))
    app.add_config_value("gradviz_pre_code", _PRE_CODE, "env", (str,))
    skipped: Any = dict.fromkeys(("html", "latex", "text", "man", "texinfo"), (skip, None))
    app.add_node(picture, **skipped)
    app.add_directive("gradviz", GradvizDirective)
    app.add_post_transform(DrawPictures)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}
