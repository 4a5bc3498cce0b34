"""sphinx-gallery looks at ``_repr_html_`` of the last line of a block, and shows it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from sphinx.testing.util import SphinxTestApp
from sphinx_building import site


def test_drawings_answers_and_recordings_are_pictures_of_a_gallery(tmp_path: Path) -> None:
    app = SphinxTestApp("html", srcdir=site(tmp_path, "worked"))
    try:
        app.build()
        html = (Path(app.outdir) / "made" / "loss.html").read_text()
        assert app.warning.getvalue() == ""
    finally:
        app.cleanup()
    found = re.findall(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]+)"', html)
    drawing, answer, recording = [(alt, base64.b64decode(data).decode()) for alt, data in found]
    assert drawing[0].startswith("2 operations from 1 leaf to loss. x.grad is None.")
    assert "x: fine\n  it has a gradient, norm 3.464" in html
    assert answer[0].startswith("x: it has a gradient, norm 3.464")
    assert "detach" in recording[1]
    assert "loss.py:2" in recording[1]
