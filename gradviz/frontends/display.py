"""What notebooks and pages of documentation show: a picture as an image, an answer as HTML.

An image with its data in it shows everywhere: notebooks that are not trusted drop inline SVG, and
several viewers damage it.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import threading
from collections.abc import Iterator
from html import escape
from typing import Any

__all__ = [
    "VIEWER_HEIGHT",
    "alt_text",
    "image",
    "interactive",
    "interactive_parts",
    "output",
    "preformatted",
    "waiting",
]

VIEWER_HEIGHT = 620
"""Of the viewer within a page or notebook, in pixels."""
_PATIENCE = 1.0  # seconds

# An image asks for the color-scheme of the element that it stands in. JupyterLab sets one from 4.3
# on; the pages of nbconvert, which tell their theme by the same attribute, leave it to the system.
_CLASS = "gradviz-output"
_LIKE_THE_PAGE = "".join(
    f"[data-jp-theme-light={light}] .{_CLASS}{{color-scheme:{scheme}}}"
    for light, scheme in (("true", "light"), ("false", "dark"))
)


def image(svg: str, alt: str, mark: str = "") -> str:
    """An SVG as an ``<img>`` that holds all of it.

    Args:
        svg: the picture.
        alt: what it says, for those who do not see it.
        mark: what the image's address ends with, as in ``"#only-dark"``; style sheets may ask.

    Example:
        >>> image("<svg/>", 'x "and" y')
        '<img alt="x &quot;and&quot; y" src="data:image/svg+xml;base64,PHN2Zy8+">'
    """
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}{mark}">'


def output(svg: str, alt: str) -> str:
    """An image as a notebook shows it: light or dark like the page, if it follows its reader.

    Args:
        svg: as for `image`.
        alt: as for `image`.

    Example:
        >>> output("<svg/>", "x").split("</style>")[1]
        '<img alt="x" src="data:image/svg+xml;base64,PHN2Zy8+" class="gradviz-output">'
    """
    return f'<style>{_LIKE_THE_PAGE}</style>{image(svg, alt)[:-1]} class="{_CLASS}">'


def interactive(still: str, page: str, height: int) -> str:
    """A still picture with a viewer over it, which shows where scripts and frames are allowed.

    Args:
        still: the picture, as HTML.
        page: the viewer, a whole page.
        height: of the viewer, in pixels.

    Example:
        >>> interactive("<img>", "<p>", 300).count("<iframe")
        1
    """
    before, after = interactive_parts(page, height)
    return before + still + after


def interactive_parts(page: str, height: int) -> tuple[str, str]:
    """What stands before the still picture, and after it; arguments as for `interactive`."""
    return (
        f'<div style="position:relative;height:{height}px;overflow:auto">',
        '<iframe loading="lazy" title="gradviz viewer" '
        'sandbox="allow-scripts allow-downloads allow-modals" '
        f'style="position:absolute;top:0;left:0;width:100%;height:{height}px;border:0" '
        f'srcdoc="{escape(page, quote=True)}"></iframe></div>',
    )


def preformatted(text: str) -> str:
    """Text in columns as HTML; pages of nbconvert show ``<pre>`` alone in their body's font.

    Args:
        text: of a drawing or an answer.
    """
    return f'<pre style="font-family:monospace">{escape(text)}</pre>'


def alt_text(text: str, most: int = 300) -> str:
    r"""What a picture says to who does not see it: as many lines as one cares to listen to.

    Args:
        text: of the drawing.
        most: letters.

    Example:
        >>> alt_text("loss  =  9\n← sum\n\n1 operation.\n")
        'loss = 9; ← sum; 1 operation.'
    """
    kept: list[str] = []
    for line in filter(None, map(" ".join, map(str.split, text.splitlines()))):
        if kept and sum(map(len, kept)) + len(line) > most:
            kept.append("…")
            break
        kept.append(line)
    return "; ".join(kept).replace(".; ", ". ")  # with a pause after each line


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Tell the reader of a notebook what takes so long, when it takes longer than a second.

    Elsewhere it does nothing. The line is taken away again at the end.

    Args:
        what: what is being done: ``"drawing 12,000 nodes"``.
    """
    if "ipykernel" not in sys.modules:
        yield
        return
    from IPython.display import display

    handles: list[Any] = []

    def tell() -> None:
        with contextlib.suppress(Exception):  # the kernel may be on its way out
            handles.append(display({"text/plain": f"{what} …"}, raw=True, display_id=True))

    timer = threading.Timer(_PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for handle in handles:
            handle.update({"text/plain": ""}, raw=True)
