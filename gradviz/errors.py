"""The errors gradviz raises: each is a ``GradvizError`` and the builtin it stands for.

A message says what happened, the value, what is allowed and what to do next, so that it can
be printed alone, without a traceback.
"""

from __future__ import annotations

__all__ = [
    "DamagedFileError",
    "GradvizError",
    "LayoutError",
    "MissingPackageError",
    "OutputError",
    "ScriptError",
    "SubjectError",
    "TargetError",
    "TooLargeError",
    "UsageError",
]


class GradvizError(Exception):
    """Root of every error that gradviz raises on purpose."""


class SubjectError(GradvizError, TypeError):
    """The thing to draw is not something autograd knows (None, a number, a module, ...)."""


class UsageError(GradvizError, ValueError):
    """An option has a value that is not allowed (an unknown suffix, theme, node, ...)."""


class DamagedFileError(GradvizError, ValueError):
    """A saved graph cannot be read: not JSON, cut short, or of an unknown schema version."""


class TooLargeError(GradvizError, ValueError):
    """The graph does not fit a limit of the format (Mermaid's 500 edges, for one)."""


class TargetError(GradvizError, LookupError):
    """``train.py:loss`` does not lead to a value: no such file, module or name."""


class ScriptError(GradvizError, RuntimeError):
    """The program that was to be drawn failed before it had made what was asked for."""


class LayoutError(GradvizError, RuntimeError):
    """The layout engine crashed, ran out of time, or is not there."""


class OutputError(GradvizError, OSError):
    """The picture cannot be written: a read-only folder, a full disk, a folder in the way."""


class MissingPackageError(GradvizError, ImportError):
    """A front-end needs a package that is not installed: Sphinx, for one."""
