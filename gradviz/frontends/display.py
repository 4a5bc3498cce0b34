"""Output for notebooks and documentation pages: pictures as images, answers as HTML.

An image with embedded data is displayed everywhere: untrusted notebooks drop inline SVG, and
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

VIEWER_HEIGHT = 720
"""Height of the viewer in a page or notebook, in pixels."""
_PATIENCE = 1.0  # seconds
_MOST_CHARACTERS = 300  # of a text alternative

# An image or a frame uses the color-scheme of its parent element. JupyterLab sets one from 4.3 on;
# the pages of nbconvert, which have the same attribute, leave the scheme to the system.
_CLASS = "gradviz-output"
_LIKE_THE_PAGE = "".join(
    f"[data-jp-theme-light={light}] .{_CLASS}{{color-scheme:{scheme}}}"
    for light, scheme in (("true", "light"), ("false", "dark"))
)


def image(svg: str, alt: str, mark: str = "") -> str:
    """Convert an SVG to an ``<img>`` with embedded data.

    Args:
        svg: the picture.
        alt: the text for readers who do not see it.
        mark: the end of the image's address, for example ``"#only-dark"``, for style sheets.

    Example:
        >>> image("<svg/>", 'x "and" y')
        '<img alt="x &quot;and&quot; y" src="data:image/svg+xml;base64,PHN2Zy8+">'
    """
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/svg+xml;base64,{data}{mark}">'


def output(svg: str, alt: str) -> str:
    """An image for a notebook: light or dark like the page, if the theme is ``auto``.

    Args:
        svg: as for `image`.
        alt: as for `image`.

    Example:
        >>> output("<svg/>", "x").split("</style>")[1]
        '<img alt="x" src="data:image/svg+xml;base64,PHN2Zy8+" class="gradviz-output">'
    """
    return f'<style>{_LIKE_THE_PAGE}</style>{image(svg, alt)[:-1]} class="{_CLASS}">'


def interactive(still: str, page: str, height: int) -> str:
    """A still picture covered by a viewer, which is visible if scripts and frames are allowed.

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
    """The HTML before the still picture, and after it; arguments as for `interactive`."""
    return (
        f'<div style="position:relative;height:{height}px;overflow:auto">',
        '<iframe loading="lazy" title="gradviz viewer" '
        'sandbox="allow-scripts allow-downloads allow-modals" '
        f'class="{_CLASS}" '
        f'style="position:absolute;top:0;left:0;width:100%;height:{height}px;border:0" '
        f'srcdoc="{escape(page, quote=True)}"></iframe></div>',
    )


def preformatted(text: str) -> str:
    """Text in columns as HTML; nbconvert's pages show a plain ``<pre>`` in the body's font.

    Args:
        text: of a drawing or an answer.
    """
    return f'<pre style="font-family:monospace">{escape(text)}</pre>'


def alt_text(text: str) -> str:
    r"""A text alternative for a picture: the first lines of its text.

    Args:
        text: of the drawing.

    Example:
        >>> alt_text("loss  =  9\n← sum\n\n1 operation.\n")
        'loss = 9; ← sum; 1 operation.'
    """
    kept: list[str] = []
    for line in filter(None, map(" ".join, map(str.split, text.splitlines()))):
        if kept and sum(map(len, kept)) + len(line) > _MOST_CHARACTERS:
            kept.append("…")
            break
        kept.append(line)
    return "; ".join(kept).replace(".; ", ". ")  # so that a reader pauses after each line


def shown_in_notebook(picture: object) -> bool:
    """Display a picture under the cell that runs; False, and nothing is done, elsewhere."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython.display import display

    display(picture)
    return True


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a line in a notebook while a task takes longer than a second.

    Elsewhere it does nothing. The line is removed at the end.

    Args:
        what: the task: ``"drawing 12,000 nodes"``.
    """
    if "ipykernel" not in sys.modules:
        yield
        return
    from IPython.display import display

    handles: list[Any] = []

    def show_line() -> None:
        with contextlib.suppress(Exception):  # the kernel may be on its way out
            handles.append(display({"text/plain": f"{what} …"}, raw=True, display_id=True))

    timer = threading.Timer(_PATIENCE, show_line)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for handle in handles:
            handle.update({"text/plain": ""}, raw=True)
