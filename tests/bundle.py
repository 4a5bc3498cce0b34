"""Build ``viewer.js`` from the modules in ``gradviz/viewer``: ``make viewer``.

The modules are written one after another, each after its imports, without import and export
statements, each in its own function. The output is deterministic and ASCII.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parents[1] / "gradviz" / "viewer"
BUILT = HERE / "viewer.js"
"""The built file, which is included in the wheel."""

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:(?:async )?function|class|const|let) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n", re.MULTILINE | re.DOTALL)


def bundle(first: str = "main", *, exposed: str = "") -> str:
    """The text of the built file.

    Args:
        first: the entry module.
        exposed: for tests, the property of ``window`` that gets the exports of ``first``.

    Example:
        >>> bundle("format").startswith("// Built by tests/bundle.py")
        True
    """
    parts = [_module(name) for name in _in_order(first)]
    last = f"window.{exposed} = ${first};\n" if exposed else ""
    head = "// Built by tests/bundle.py (make viewer) from the modules beside it.\n"
    return head + _ascii('(() => {\n"use strict";\n' + "".join(parts) + last + "})();\n")


def _ascii(text: str) -> str:
    """Escape what is not ASCII, so that the page's policy allows the script in any encoding."""
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _module(name: str) -> str:
    """A module as a function that returns its exports."""
    text = _source(name)
    exported = ", ".join(_EXPORT.findall(text))
    body = _COMMENT.sub("", _IMPORT.sub(r"const {\1} = $\2;\n", text)).replace("\nexport ", "\n")
    body = body.removeprefix("export ")
    return f"const ${name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _source(name: str) -> str:
    return (HERE / f"{name}.js").read_text(encoding="utf-8")


def _in_order(first: str) -> list[str]:
    """A module and its dependencies, each after its own dependencies."""
    found: list[str] = []

    def add(name: str) -> None:
        for _, needed in _IMPORT.findall(_source(name)):
            add(needed)
        if name not in found:
            found.append(name)

    add(first)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the built file; with ``--check``, only check whether it is up to date."""
    parser = argparse.ArgumentParser(description="Build gradviz/viewer/viewer.js.")
    parser.add_argument("--check", action="store_true", help="only compare")
    asked = parser.parse_args(arguments)
    text = bundle()
    if asked.check:
        return int(not BUILT.exists() or BUILT.read_text(encoding="utf-8") != text)
    BUILT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
