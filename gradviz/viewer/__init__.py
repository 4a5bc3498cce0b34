"""The interactive page: JavaScript modules and a style sheet, and the script joined from them.

The modules are joined when the first page of a process is made: there is no built file that could
be out of date. A page has one script, since its content security policy loads nothing.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:(?:async )?function|class|const|let) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n", re.MULTILINE | re.DOTALL)


@cache
def script(first: str = "main", *, exposed: str = "") -> str:
    """The script of the page: a module and those that it imports, each in its own function.

    The text is deterministic, and ASCII, so that a page may hold it in any encoding.

    Args:
        first: the module to start from.
        exposed: the property of ``window`` that gets the exports of ``first``, for tests; "" for
            none.

    Example:
        >>> script("format").startswith('(() => {')
        True
    """
    parts = [_as_function(name) for name in _in_order(first)]
    last = f"window.{exposed} = ${first};\n" if exposed else ""
    return _ascii('(() => {\n"use strict";\n' + "".join(parts) + last + "})();\n")


@cache
def style() -> str:
    """The style sheet of the page.

    Example:
        >>> "#gradviz-viewer" in style()
        True
    """
    return _read("theme.css")


@cache
def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _in_order(first: str) -> list[str]:
    """A module and those that it needs, each after the ones that it needs itself."""
    found: list[str] = []

    def add(name: str) -> None:
        for _, needed in _IMPORT.findall(_read(f"{name}.js")):
            add(needed)
        if name not in found:
            found.append(name)

    add(first)
    return found


def _as_function(name: str) -> str:
    """A module as a call of a function that returns its exports."""
    text = _read(f"{name}.js")
    exported = ", ".join(_EXPORT.findall(text))
    body = _COMMENT.sub("", _IMPORT.sub(r"const {\1} = $\2;\n", text)).replace("\nexport ", "\n")
    body = body.removeprefix("export ")
    return f"const ${name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _ascii(text: str) -> str:
    """Escape what is not ASCII."""
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
