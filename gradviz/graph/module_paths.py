"""Paths of modules as a reader wants them: without what wrappers put into them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Path", "without_wrappers"]

Path = tuple[str, ...]
"""The parts of a module's path: ``("encoder", "layers", "3")``; ``()`` for the model itself."""

_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_OUTERMOST = "module"  # of DataParallel and its like; further inside it may be the user's own word


def without_wrappers(parts: Sequence[str]) -> Path:
    """The path without the names that ``torch.compile``, ``DataParallel`` and the like add.

    Args:
        parts: of the path, as ``named_modules`` gives it, split at the dots.

    Example:
        >>> without_wrappers(["module", "_orig_mod", "layers", "3"])
        ('layers', '3')
    """
    path = tuple(part for part in parts if part not in _WRAPPERS)
    return path[1:] if path[:1] == (_OUTERMOST,) else path
