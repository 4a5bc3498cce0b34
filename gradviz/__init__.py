"""See what PyTorch's autograd recorded: a picture and one sentence.

Snapshot, then transform, then draw::

    tensors ──► trace ──► GradGraph ──► views ──► labels, theme ──► renderers ──► draw, CLI

`trace` walks from a tensor through ``grad_fn`` and keeps what it finds as plain values in a
`GradGraph`. Views make the graph fit for a reader's eye, renderers write it as SVG, PNG, PDF,
DOT, Mermaid, JSON or text, and `draw` does all of it in one call.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

import lazy_loader

from gradviz.shown import show_with

if TYPE_CHECKING:
    from gradviz.capture.tracer import trace
    from gradviz.checking.check import Check, check
    from gradviz.comparison import Comparison, compare
    from gradviz.comparison.ranks import gather
    from gradviz.diagnosis import Explanation, Explanations, Verdict, explain
    from gradviz.errors import GradvizError
    from gradviz.frontends.drawing import Drawing, draw
    from gradviz.frontends.summary import Summary, summary
    from gradviz.frontends.viewing import view
    from gradviz.graph import GradGraph
    from gradviz.recording.api import Recording, record
    from gradviz.reports.memory import memory
    from gradviz.story import Frame, Story

__version__ = "0.1.0"

__all__ = [
    "Check",
    "Comparison",
    "Drawing",
    "Explanation",
    "Explanations",
    "Frame",
    "GradGraph",
    "GradvizError",
    "Recording",
    "Story",
    "Summary",
    "Verdict",
    "check",
    "compare",
    "draw",
    "explain",
    "gather",
    "memory",
    "record",
    "summary",
    "trace",
    "view",
]

# Names are imported on first use: ``import gradviz`` stays fast, and a saved graph can be drawn
# where torch is not installed.
_imported, __dir__, _ = lazy_loader.attach(
    __name__,
    submodules=["views"],
    submod_attrs={
        "capture.tracer": ["trace"],
        "checking.check": ["Check", "check"],
        "comparison": ["Comparison", "compare"],
        "comparison.ranks": ["gather"],
        "diagnosis": ["Explanation", "Explanations", "Verdict", "explain"],
        "errors": ["GradvizError"],
        "frontends.drawing": ["Drawing", "draw"],
        "frontends.mkdocs": ["markdown_fence", "markdown_options"],
        "frontends.notebook": ["load_ipython_extension", "unload_ipython_extension"],
        "frontends": ["setup"],  # what Sphinx calls for extensions = ["gradviz"]
        "frontends.summary": ["Summary", "summary"],
        "frontends.viewing": ["view"],
        "graph": ["GradGraph"],
        "recording.api": ["Recording", "record"],
        "reports.memory": ["memory"],
        "story": ["Frame", "Story"],
    },
)


def __getattr__(name: str) -> Any:
    """Import a public name without garbage collection.

    Modules are no garbage, and one pass over the objects of torch takes a third of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _imported(name)
    finally:
        if was_enabled:
            gc.enable()


def _to_html(answer: Any) -> str:
    html: str = import_module("gradviz.frontends.viewing").answer_html(answer)
    return html


show_with(lambda answer, **options: __getattr__("draw")(answer, **options), _to_html)
