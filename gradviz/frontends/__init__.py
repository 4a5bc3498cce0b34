"""Front-ends: `draw`, commands, notebooks, documentation pages. Only they print, write and exit."""

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
        from gradviz.frontends.sphinx import register
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("sphinx", "docutils"):
            raise
        raise MissingPackageError(
            f"the gradviz directive needs Sphinx, and {error.name} is not installed: "
            "pip install 'gradviz[docs]'"
        ) from error
    return register(app)
