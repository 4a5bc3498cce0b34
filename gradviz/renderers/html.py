"""A story as an HTML page that shows one frame at a time: buttons, arrow keys, list.

The page needs no network. Without scripts it shows all frames, one under the other.
"""

from __future__ import annotations

from html import escape

from gradviz.renderers.compose import compose_each
from gradviz.renderers.labels import clean
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.svg import to_svg
from gradviz.renderers.theme import FONT, PALETTE, Theme
from gradviz.story import Frame, Story

__all__ = ["to_html"]


def to_html(story: Story, theme: Theme = "auto", style: SheetStyle | None = None) -> str:
    """The story as the text of an HTML file.

    Args:
        story: frames as they will be drawn.
        theme: as for `to_svg`; it holds for the page as well.
        style: how each frame is arranged.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> page = to_html(Story((Frame("before", GradGraph()), Frame("after", GradGraph()))))
        >>> page.count("<figure")
        2
    """
    pictures = [to_svg(scene, theme) for scene in compose_each(story, style)]
    figures = [
        _figure(number, frame, picture)
        for number, (frame, picture) in enumerate(zip(story, pictures, strict=True), 1)
    ]
    title = escape(clean(story.title) or "What autograd recorded")
    notes = "".join(f"<p>{escape(clean(note))}</p>" for note in story.notes)
    steps = "".join(
        f'<li><a href="#frame-{number}">{escape(clean(frame.title) or f"frame {number}")}</a></li>'
        for number, frame in enumerate(story, 1)
    )
    several = len(story) > 1
    stepper = _STEPPER.format(steps=steps) if several else ""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_style(theme)}</style></head><body>",
            f"<h1>{title}</h1>",
            stepper,
            f"<main>{''.join(figures)}</main>",
            notes,
            f"<script>{_SCRIPT}</script>" if several else "",
            "</body></html>\n",
        ]
    )


def _figure(number: int, frame: Frame, picture: str) -> str:
    caption = f"<figcaption>{escape(clean(frame.caption))}</figcaption>" if frame.caption else ""
    return f'<figure id="frame-{number}"><div>{picture}</div>{caption}</figure>\n'


_STEPPER = """<nav aria-label="frames">
<p class="buttons" hidden><button type="button" data-step="-1">◀ back</button>
<output aria-live="polite"></output>
<button type="button" data-step="1">next ▶</button></p>
<ol>{steps}</ol>
</nav>"""

_SCRIPT = """
const frames = [...document.querySelectorAll('figure')];
const links = [...document.querySelectorAll('nav a')];
const buttons = [...document.querySelectorAll('nav button')];
document.querySelector('.buttons').hidden = false;
let now = 0;
function show(number) {
  now = Math.max(0, Math.min(frames.length - 1, number));
  frames.forEach((frame, i) => { frame.hidden = i !== now; });
  links.forEach((link, i) => {
    if (i === now) link.setAttribute('aria-current', 'step');
    else link.removeAttribute('aria-current');
  });
  document.querySelector('output').textContent = `${now + 1} of ${frames.length}`;
  buttons[0].disabled = now === 0;
  buttons[1].disabled = now === frames.length - 1;
}
function fromAddress() {
  const number = frames.findIndex(frame => '#' + frame.id === location.hash);
  show(number < 0 ? 0 : number);
}
buttons.forEach(button => button.addEventListener('click', () => show(now + +button.dataset.step)));
links.forEach((link, i) => link.addEventListener('click', event => {
  event.preventDefault();
  history.replaceState(null, '', link.hash);
  show(i);
}));
addEventListener('keydown', event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === 'ArrowRight') show(now + 1);
  if (event.key === 'ArrowLeft') show(now - 1);
});
addEventListener('hashchange', fromAddress);
fromAddress();
"""


def _style(theme: Theme) -> str:
    """The page in the colours of the pictures."""
    light, dark = (
        " ".join(f"--{token}: {colours[scheme]};" for token, colours in PALETTE.items())
        for scheme in (0, 1)
    )
    first = dark if theme == "dark" else light
    follow = f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    scheme = "light dark" if theme == "auto" else theme
    return f"""
:root {{ color-scheme: {scheme}; {first} }}
{follow if theme == "auto" else ""}
body {{ font: 15px/1.5 {FONT}; background: var(--page); color: var(--ink);
  max-width: 76rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.3rem; }}
nav ol {{ display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; list-style: none;
  counter-reset: step; }}
nav li {{ counter-increment: step; }}
nav a {{ display: block; padding: .15rem .6rem; border: 1px solid var(--panel);
  border-radius: 1rem; color: var(--ink); text-decoration: none; }}
nav a::before {{ content: counter(step) "  "; font-weight: bold; }}
nav a[aria-current] {{ border-color: var(--leaf-edge); background: var(--leaf); }}
button {{ font: inherit; padding: .2rem .8rem; }}
output {{ display: inline-block; min-width: 5rem; text-align: center; }}
figure {{ margin: 1rem 0; text-align: center; }}
figure > div {{ overflow-x: auto; }}
figure > div > svg {{ max-width: max(100%, 40rem) !important; height: auto; }}
figcaption, p {{ color: var(--muted); }}
[hidden] {{ display: none !important; }}
"""
