"""See what PyTorch's autograd recorded: a picture and one sentence.

Snapshot, then transform, then draw::

    tensors ──► trace ──► GradGraph ──► views ──► labels, theme ──► renderers ──► draw, CLI

`trace` walks from a tensor through ``grad_fn`` and stores what it finds as plain values in a
`GradGraph`. Views simplify the graph for reading, renderers write it as SVG, PNG, PDF, DOT,
Mermaid, JSON or text, and `draw` does all of this in one call.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradviz.shown import show_with

if TYPE_CHECKING:
    from gradviz.capture.tracing.tracer import trace
    from gradviz.checking.check import check
    from gradviz.checking.checked import Check
    from gradviz.comparison import Comparison, compare
    from gradviz.diagnosis import Explanation, Explanations, Verdict, explain
    from gradviz.errors import GradvizError
    from gradviz.frontends.drawing import Drawing, draw
    from gradviz.frontends.summary import Summary, summary
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
    "memory",
    "record",
    "summary",
    "trace",
]

# Names are imported on first use: ``import gradviz`` stays fast, and a saved graph can be drawn
# where torch is not installed.
_HOME = {
    "Check": "gradviz.checking.checked",
    "Comparison": "gradviz.comparison",
    "Drawing": "gradviz.frontends.drawing",
    "Explanation": "gradviz.diagnosis",
    "Explanations": "gradviz.diagnosis",
    "Frame": "gradviz.story",
    "GradGraph": "gradviz.graph",
    "GradvizError": "gradviz.errors",
    "Recording": "gradviz.recording.api",
    "Story": "gradviz.story",
    "Summary": "gradviz.frontends.summary",
    "Verdict": "gradviz.diagnosis",
    "check": "gradviz.checking.check",
    "compare": "gradviz.comparison",
    "draw": "gradviz.frontends.drawing",
    "explain": "gradviz.diagnosis",
    "load_ipython_extension": "gradviz.frontends.notebook",
    "markdown_fence": "gradviz.frontends.mkdocs",
    "markdown_options": "gradviz.frontends.mkdocs",
    "memory": "gradviz.reports.memory",
    "record": "gradviz.recording.api",
    "setup": "gradviz.frontends.sphinx",  # what Sphinx calls for extensions = ["gradviz"]
    "summary": "gradviz.frontends.summary",
    "trace": "gradviz.capture.tracing.tracer",
    "unload_ipython_extension": "gradviz.frontends.notebook",
}


def _to_html(answer: Any) -> str:
    html: str = import_module("gradviz.frontends.drawing").answer_html(answer)
    return html


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gradviz' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


show_with(lambda answer, **options: __getattr__("draw")(answer, **options), _to_html)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
