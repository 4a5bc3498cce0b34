"""What Sphinx is told about gradviz: a directive, a node, settings."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import ENUM, Config

from gradviz import __version__
from gradviz.frontends.pages.cache import versions
from gradviz.frontends.sphinx.directive import GradvizDirective
from gradviz.frontends.sphinx.options import THEMES
from gradviz.frontends.sphinx.picture import draw_pictures, picture, skip

__all__ = ["register"]

_NODES = 2  # to be raised when what a picture node holds changes: all pages are read again then
_READ_ALONE = 5  # pages that Sphinx reads without forking
_PRE_CODE = "import torch\nimport gradviz\n"


def register(app: Sphinx) -> dict[str, Any]:
    """Register everything; returns what Sphinx wants to know of an extension."""
    app.add_config_value("gradviz_theme", "site", "html", ENUM(*THEMES))
    app.add_config_value("gradviz_pre_code", _PRE_CODE, "env", (str,))
    # Before the others who listen to this: they find images where the pictures were.
    app.connect("doctree-resolved", draw_pictures, priority=100)
    skipped: Any = dict.fromkeys(("html", "latex", "text", "man", "texinfo"), (skip, None))
    app.add_config_value("gradviz_versions", "", "env", (str,))
    app.connect("config-inited", _note_versions)
    app.connect("env-before-read-docs", _load_torch)
    app.add_node(picture, **skipped)
    app.add_directive("gradviz", GradvizDirective)
    safe = {"parallel_read_safe": True, "parallel_write_safe": True}
    return {"version": __version__, "env_version": _NODES, **safe}


def _note_versions(_: Sphinx, config: Config) -> None:
    """Keep the versions as a setting: when one of them changes, every page is read again."""
    config["gradviz_versions"] = versions()


def _load_torch(app: Sphinx, _: object, docnames: list[str]) -> None:
    """Load torch before Sphinx forks to read in parallel: each child would, for a second or two."""
    if app.parallel > 1 and len(docnames) > _READ_ALONE:
        with contextlib.suppress(ImportError):  # a page that needs it will say so
            import_module("gradviz.capture.tracing.tracer")
