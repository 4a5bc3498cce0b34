"""The errors that gradviz raises: each is a ``GradvizError`` and also a builtin exception.

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
    "UnknownNameError",
    "UsageError",
]


class GradvizError(Exception):
    """Root of every error that gradviz raises on purpose."""


class SubjectError(GradvizError, TypeError):
    """The object to draw is not one that autograd knows: None, a number, a module, ..."""


class UsageError(GradvizError, ValueError):
    """An option has a value that is not allowed (an unknown suffix, theme, node, ...)."""


class UnknownNameError(UsageError, KeyError):
    """No node, or no explained tensor, has the name that was asked for."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would put it in quotes


class DamagedFileError(GradvizError, ValueError):
    """A saved graph cannot be read: it is no JSON, truncated, or of an unknown schema version."""


class TooLargeError(GradvizError, ValueError):
    """The graph exceeds a limit of the format, for example Mermaid's 500 edges."""


class TargetError(GradvizError, LookupError):
    """``train.py:loss`` does not lead to a value: the file, module or name does not exist."""


class ScriptError(GradvizError, RuntimeError):
    """The program failed before it created the value to draw."""


class LayoutError(GradvizError, RuntimeError):
    """The layout engine crashed, ran out of time, or is not installed."""


class OutputError(GradvizError, OSError):
    """The picture cannot be written: read-only folder, full disk, or the path is a folder."""


class MissingPackageError(GradvizError, ImportError):
    """A package is not installed, or too old: Sphinx for its directive, torch before 2.12."""
