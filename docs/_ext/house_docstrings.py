"""Docstrings here hold no types, since signatures do: a colon in them is only a colon.

Napoleon takes ``The picture: a notebook shows it`` for a type and a description. This puts the
sentence together again.
"""

import re

_TYPE = re.compile(r"^(:r?type:) (.*)$")


def whole_sentences(_app, _what, _name, _obj, _options, lines):
    """Undo the split, in the lines that napoleon has made."""
    for number, line in enumerate(lines):
        found = _TYPE.match(line)
        if not found:
            continue
        first = number - 1
        if found[1] == ":rtype:":
            first = next(n for n, text in enumerate(lines) if text.startswith(":returns:"))
            lines[first] = lines[first].replace(":returns: ", f":returns: {found[2]}: ", 1)
        else:
            first = next(n for n, text in enumerate(lines) if text.strip())
            lines[first] = f"{found[2]}: {lines[first]}"
        lines[number] = ""
        return


def setup(app):
    app.connect("autodoc-process-docstring", whole_sentences, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
