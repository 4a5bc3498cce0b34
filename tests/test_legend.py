"""The legend says what is in the picture, and of it only what is true."""

import pytest

from gradviz.graph import GradGraph, NodeKind
from gradviz.renderers.caption import legend_glyph, legend_of


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NodeKind.LEAF, "leaf or leaves from above, drawn again"),
        (NodeKind.PARAMETER, "leaf or leaves from above, drawn again"),
        (NodeKind.UNTRACKED, "tensor from above, drawn again"),
    ],
)
def test_what_is_drawn_again_is_called_what_it_is(kind: NodeKind, said: str) -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=kind)
    graph.add_node("n0:1", kind=kind, clone_of="n0")
    legend = legend_of([graph])
    assert list(legend.values())[1:] == [said]
    assert all(legend_glyph(word, 0, 0) for word in legend)
