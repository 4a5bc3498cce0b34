"""Report warnings of the recorded program with the file and line of the program.

While a recording is open, torch's functions are called from a line of gradviz, and Python takes
that line as the location of a warning. This is wrong for the reader, and the filter "once per
line" would drop the warning of a second line. Therefore the warning is issued again, with the
line that made the call.
"""

from __future__ import annotations

import sys
import warnings
from types import CodeType
from typing import Any

from torch.overrides import handle_torch_function

from gradviz.capture.shared_install import SharedInstall

__all__ = ["call_made_from", "install", "remove"]

_SHOW = "_showwarnmsg"  # called from C with each warning that passes the filters
_callers: set[CodeType] = set()
_original: Any = None


def call_made_from(code: CodeType, module_globals: dict[str, Any]) -> None:
    """Register code of gradviz that calls functions of torch for the program.

    Args:
        code: the code.
        module_globals: of its module; Python must not store there which warnings were shown.
    """
    _callers.add(code)
    module_globals["__warningregistry__"] = None


def install() -> None:
    """Move warnings to the program's lines, until `remove` was called equally often."""
    _shared.begin()


def remove() -> None:
    """Restore Python's own function, after the last recording."""
    _shared.end()


def _install() -> None:
    global _original
    if hasattr(warnings, _SHOW):
        _original = getattr(warnings, _SHOW)
        setattr(warnings, _SHOW, _show)


def _restore() -> None:
    if getattr(warnings, _SHOW, None) is _show:
        setattr(warnings, _SHOW, _original)


_shared = SharedInstall(_install, _restore)


def _show(message: Any) -> None:
    frame = _program_frame(sys._getframe(1)) if message.filename in _files() else None
    if frame is None:
        _original(message)
        return
    once: Any = getattr(warnings, "onceregistry", {})
    once.pop((str(message.message), message.category), None)
    warnings.warn_explicit(
        message.message,
        message.category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__") or "<unknown>",
        frame.f_globals.setdefault("__warningregistry__", {}),
        frame.f_globals,
        message.source,
    )


def _files() -> set[str]:
    return {code.co_filename for code in _callers}


def _program_frame(frame: Any) -> Any:
    """The frame of the program that called a function of torch in which a warning was issued."""
    while frame is not None and frame.f_code not in _callers:
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__", "").startswith("gradviz.recording"):
        frame = frame.f_back
    if frame is not None and frame.f_code is handle_torch_function.__code__:
        frame = frame.f_back.f_back  # from the function of torch that was called twice
    return frame
