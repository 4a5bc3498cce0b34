"""Checks the built site: links within it, pages wider than a phone, and text that is too small.

``python docs/check.py docs/_build/html``; the last two need Chromium, and say so where it is
not installed.
"""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

PHONE, DESKTOP = 390, 1280
TEXT, SMALLEST = 11, 9  # px: the smallest text in a picture as it is drawn, and as it may be shown
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--allow-file-access-from-files",
    "--disable-web-security",
    "--virtual-time-budget=60000",
    "--dump-dom",
)
_MEASURE = """<!doctype html><iframe id="page"></iframe><pre id="out"></pre><script>
const frame = document.getElementById("page"), found = [];
frame.style.cssText = "border:0;height:900px";
(async () => {
  for (const [page, width] of JOBS) {
    frame.style.width = width + "px";
    await new Promise(done => { frame.onload = done; frame.src = page; });
    for (const box of frame.contentDocument.querySelectorAll("details")) box.open = true;
    const wide = frame.contentDocument.scrollingElement.scrollWidth;
    if (wide > width) found.push([page, width, `${wide} px wide`]);
    for (const picture of frame.contentDocument.querySelectorAll("article img.gradviz")) {
      const size = picture.getBoundingClientRect().width;  // 0 in the other theme
      const text = TEXT * size / picture.naturalWidth;
      if (size && text < SMALLEST) found.push([page, width, `text of ${text.toFixed(1)} px`]);
    }
  }
  document.getElementById("out").textContent = JSON.stringify(found);
})();
</script>"""


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {name for key in ("id", "name") if (name := given.get(key))}
        self.links += [link for key in ("href", "src") if (link := given.get(key))]


def broken_links(folder: Path) -> list[str]:
    """Each link within the site that leads nowhere, as ``page: link``."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(urlsplit(address).path)).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            there = target in pages and (not anchor or unquote(anchor) in pages[target].anchors)
            if not there and not (target.is_file() and target not in pages):
                broken.append(f"{path.relative_to(folder.resolve())}: {link}")
    return broken


def misfits(folder: Path, chromium: str) -> list[str]:
    """Pages that have to be scrolled sideways, and small pictures, on a phone or a desk."""
    pages = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    jobs: Any = [[page.resolve().as_uri(), width] for width in (PHONE, DESKTOP) for page in pages]
    with tempfile.TemporaryDirectory() as scratch:
        harness = Path(scratch) / "measure.html"
        script = _MEASURE.replace("JOBS", json.dumps(jobs))
        script = script.replace("TEXT", str(TEXT)).replace("SMALLEST", str(SMALLEST))
        harness.write_text(script, encoding="utf-8")
        command = [chromium, *_FLAGS, f"--user-data-dir={scratch}/profile", harness.as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    said = run.stdout.split('<pre id="out">')[1].split("</pre>")[0]
    found = json.loads(html.unescape(said))
    return [f"{Path(page).name}: {what} on a screen of {width}" for page, width, what in found]


def main() -> None:
    """Print what is wrong, and exit with 1 if anything is."""
    folder = Path(sys.argv[1])
    wrong = [f"broken link on {each}" for each in broken_links(folder)]
    chromium = shutil.which("chromium")
    if chromium:
        wrong += misfits(folder, chromium)
    else:
        print("chromium is not installed: the width of the pages is not checked")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    pages = len(list(folder.rglob("*.html")))
    print(f"{pages} pages, {len(wrong)} faults: {folder / 'index.html'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
