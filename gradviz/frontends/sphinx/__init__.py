"""gradviz in Sphinx: ``extensions = ["gradviz"]``, then ``.. gradviz:: loss``.

A page's code runs when the page is read; its graph is stored as JSON in the document, and is drawn
for each builder when needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradviz.errors import MissingPackageError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive; Sphinx calls this for ``extensions = ["gradviz"]``.

    Raises:
        MissingPackageError: if Sphinx is not installed.
    """
    try:
        from gradviz.frontends.sphinx.directive import register
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("sphinx", "docutils"):
            raise
        raise MissingPackageError(
            f"the gradviz directive needs Sphinx, and {error.name} is not installed: "
            "pip install 'gradviz[docs]'"
        ) from error
    return register(app)
