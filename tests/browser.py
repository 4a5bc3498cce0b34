"""Chromium without a window, for tests of what a browser makes of a picture or a page."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def run(folder: Path, *arguments: str) -> str:
    """Run Chromium with a profile of its own in ``folder``; returns what it printed."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; these tests are marked 'tool'"
    command = [chromium, *_FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


def evaluate(folder: Path, body: str, script: str) -> Any:
    """Load ``body`` as a page and return what ``script``, the body of a function, returns."""
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><body style="margin:0">{body}<pre id="out"></pre>'
        f"<script>document.getElementById('out').textContent = "
        f"JSON.stringify((() => {{ {script} }})())</script>",
        encoding="utf-8",
    )
    dom = run(folder, "--dump-dom", page.as_uri())
    return json.loads(html.unescape(dom.split('<pre id="out">')[1].split("</pre>")[0]))
