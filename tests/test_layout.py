"""Every engine keeps the promises of a layout, on graphs of any shape."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import combinations, pairwise
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradviz.renderers.layout.engines import lay_out
from gradviz.renderers.layout.layered import layered, pack
from gradviz.renderers.layout.routing import Box, Layout, Link
from gradviz.renderers.layout.rows import (
    acyclic,
    cost,
    count_crossings,
    cut_into_rows,
    order_rows,
    rank,
)
from gradviz.renderers.layout.wrapping import wrap

Graph = tuple[list[Box], list[Link]]
DOT = pytest.param("dot", marks=pytest.mark.tool)
ENGINES = ("dot", "pygraphviz", "layered")


@st.composite
def graphs(draw: st.DrawFn, cyclic: bool = False) -> Graph:
    count = draw(st.integers(1, 24))
    sizes = st.tuples(st.floats(4, 250), st.floats(12, 80))
    boxes = [Box(f"n{i}", *draw(sizes)) for i in range(count)]
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs = draw(st.lists(ends, max_size=40))
    if not cyclic:
        pairs = [(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]]
    return boxes, [Link(f"n{source}", f"n{target}") for source, target in pairs]


def check(graph: Graph, layout: Layout, *, downwards: bool = True) -> None:
    boxes, links = graph
    size = {box.key: box for box in boxes}
    assert list(layout.centers) == [box.key for box in boxes]
    for box in boxes:
        x, y = layout.centers[box.key]
        assert x - box.width / 2 >= -1 and x + box.width / 2 <= layout.width + 1
        assert y - box.height / 2 >= -1 and y + box.height / 2 <= layout.height + 1
    for a, b in combinations(boxes, 2):
        (ax, ay), (bx, by) = layout.centers[a.key], layout.centers[b.key]
        apart_x = abs(ax - bx) - (a.width + b.width) / 2
        apart_y = abs(ay - by) - (a.height + b.height) / 2
        assert max(apart_x, apart_y) > 5
    assert len(layout.routes) == len(links)
    for link, route in zip(links, layout.routes, strict=True):
        assert len(route) >= 4 and len(route) % 3 == 1
        assert on_border(route[0], size[link.source], layout)
        assert on_border(route[-1], size[link.target], layout)
        if downwards:
            assert layout.centers[link.source][1] < layout.centers[link.target][1]


def on_border(point: tuple[float, float], box: Box, layout: Layout) -> bool:
    x, y = layout.centers[box.key]
    beyond_x = abs(point[0] - x) - box.width / 2
    beyond_y = abs(point[1] - y) - box.height / 2
    return abs(max(beyond_x, beyond_y)) <= 1


def chain(length: int) -> Graph:
    boxes = [Box(f"n{i}", 60, 30) for i in range(length)]
    return boxes, [Link(a.key, b.key) for a, b in pairwise(boxes)]


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_layered_keeps_the_promises(graph: Graph) -> None:
    os.environ["GRADVIZ_ENGINE"] = "layered"
    try:
        check(graph, lay_out(*graph))
    finally:
        del os.environ["GRADVIZ_ENGINE"]


@given(graphs(cyclic=True))
@settings(max_examples=100, deadline=None)
def test_layered_takes_cycles_and_loops(graph: Graph) -> None:
    os.environ["GRADVIZ_ENGINE"] = "layered"
    try:
        check(graph, lay_out(*graph), downwards=False)
    finally:
        del os.environ["GRADVIZ_ENGINE"]


@pytest.mark.parametrize("engine", [DOT, "pygraphviz"])
@given(graph=graphs())
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_graphviz_keeps_the_promises(
    graph: Graph, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    layout = lay_out(*graph)
    check(graph, layout)
    assert not graph[1] or not layout.engine.startswith("gradviz")


@pytest.mark.parametrize("engine", ENGINES)
def test_parallel_links_are_apart(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    boxes = [Box("x", 80, 40), Box("mul", 60, 30), Box("sum", 60, 30)]
    far = [Link("x", "sum"), Link("x", "sum")]
    near = [Link("x", "mul"), Link("x", "mul"), Link("mul", "sum")]
    layout = lay_out(boxes, near + far)
    check((boxes, near + far), layout)
    for first, second in ((0, 1), (3, 4)):
        tips = layout.routes[first][-1], layout.routes[second][-1]
        assert abs(tips[0][0] - tips[1][0]) + abs(tips[0][1] - tips[1][1]) >= 5


@pytest.mark.parametrize("engine", ENGINES)
def test_empty_and_single(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    empty = lay_out([], [])
    assert (empty.width, empty.height, empty.centers, empty.routes) == (0, 0, {}, [])
    single = lay_out([Box("x", 60, 30)], [])
    assert (single.width, single.height, single.centers) == (60, 30, {"x": (30, 15)})


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cycle_ends(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", engine)
    boxes, links = chain(4)
    links.append(Link("n3", "n0"))
    check((boxes, links), lay_out(boxes, links), downwards=False)


def test_many_isolated_boxes_do_not_make_a_line() -> None:
    boxes = [Box(f"n{i}", 100, 40) for i in range(100)]
    layout = lay_out(boxes, [])
    check((boxes, []), layout)
    assert layout.width < 4 * layout.height < 16 * layout.width


def test_inputs_keep_their_order_where_nothing_crosses() -> None:
    boxes = [Box(key, 60, 30) for key in ("op", "c", "a", "b")]
    centers, routes = layered(boxes, [Link(key, "op") for key in ("a", "b", "c")])
    assert centers["a"][0] < centers["b"][0] < centers["c"][0]
    assert [route[-1][0] for route in routes] == sorted(route[-1][0] for route in routes)


def test_a_chain_with_leaves_runs_straight_down() -> None:
    boxes, links = chain(200)
    boxes += [Box(f"w{i}", 90, 40) for i in range(1, 200)]
    links += [Link(f"w{i}", f"n{i}") for i in range(1, 200)]
    centers, _ = layered(boxes, links)
    assert len({centers[f"n{i}"][0] for i in range(1, 200)}) == 1


def test_links_of_the_layered_layout_pass_no_box() -> None:
    boxes, links = chain(9)
    links += [Link("n0", "n4"), Link("n0", "n8"), Link("n2", "n6"), Link("n5", "n8")]
    centers, routes = layered(boxes, links)
    for link, route in zip(links, routes, strict=True):
        for at in range(0, len(route) - 1, 3):
            for step in range(11):
                x, y = bezier(route[at : at + 4], step / 10)
                for box in boxes:
                    if box.key not in (link.source, link.target):
                        dx, dy = abs(x - centers[box.key][0]), abs(y - centers[box.key][1])
                        assert dx > box.width / 2 or dy > box.height / 2


def bezier(p: tuple[tuple[float, float], ...], t: float) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return (
        sum(w * point[0] for w, point in zip(weights, p, strict=True)),
        sum(w * point[1] for w, point in zip(weights, p, strict=True)),
    )


def test_deep_and_wide_graphs() -> None:
    for boxes, links in (chain(20_000), star(5_000)):
        layout = lay_out(boxes, links)
        assert len(layout.centers) == len(boxes)
        assert all(layout.routes)


def star(count: int) -> Graph:
    """Everything goes into one box, from ever farther away."""
    boxes, links = chain(count)
    return boxes, links + [Link(box.key, boxes[-1].key) for box in boxes[:-2]]


def test_what_is_too_much_for_graphviz_goes_to_the_layered_layout() -> None:
    assert lay_out(*star(300)).engine == "gradviz layered (a large graph)"


def test_the_layout_says_why_graphviz_did_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    assert lay_out(*chain(2)).engine == "gradviz layered (asked for)"


def test_same_bytes_in_every_process() -> None:
    program = (
        "from gradviz.renderers.layout.layered import layered\n"
        "from gradviz.renderers.layout.routing import Box, Link\n"
        "import random\n"
        "choose = random.Random(3)\n"
        "boxes = [Box('n%d' % i, 20 + i % 7 * 20, 30) for i in range(80)]\n"
        "ends = [sorted(choose.sample(range(80), 2)) for _ in range(120)]\n"
        "print(layered(boxes, [Link('n%d' % a, 'n%d' % b) for a, b in ends]))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1


def test_ranks_put_sources_next_to_what_uses_them() -> None:
    assert rank(5, [(0, 1), (1, 2), (3, 4), (4, 2)]) == [0, 1, 2, 0, 1]
    assert rank(4, [(0, 1), (1, 2), (3, 2)]) == [0, 1, 2, 1]


def test_rows_from_left_to_right_are_found_where_a_link_passes_several() -> None:
    boxes = [Box(str(n), 30, 180) for n in range(24)]
    ends = [(str(n), str(n + 1)) for n in range(23)] + [("0", "23"), ("1", "22")]
    links = [Link(source, target) for source, target in ends]
    whole = lay_out(boxes, links)
    rows = wrap(boxes, whole, is_turned=True)
    assert whole.height > 4000
    assert rows.height < 1640
    assert "rows" in rows.engine
    for (source, target), route in zip(ends, rows.routes, strict=True):
        for key, (x, y) in ((source, route[0]), (target, route[-1])):
            assert abs(rows.centers[key][1] - y) < 95, (source, target)
            assert abs(rows.centers[key][0] - x) < 20, (source, target)


def test_cost_counts_the_rows_that_links_cross() -> None:
    assert cost(3, [(0, 1), (1, 2)]) == 3
    assert cost(4, [(0, 1), (1, 2), (2, 3), (0, 3)]) == 6


def test_only_links_that_close_a_cycle_are_turned() -> None:
    assert acyclic(3, [(0, 1), (1, 2), (2, 0)]) == [(0, 1), (1, 2), (0, 2)]
    assert acyclic(3, [(2, 1), (1, 0)]) == [(2, 1), (1, 0)]


def test_ordering_removes_crossings() -> None:
    pairs = [(0, 5), (1, 4), (2, 3), (0, 4), (1, 5)]
    rows = cut_into_rows([0, 0, 0, 1, 1, 1], pairs)
    order_rows(rows)
    assert count_crossings(rows) == 1


def test_a_hub_gathers_its_long_links() -> None:
    boxes, links = star(400)
    rows = cut_into_rows(range(400), [(int(a.source[1:]), int(a.target[1:])) for a in links])
    assert len(rows.rank) < 3 * len(boxes)


def test_where_bends_would_be_too_many_links_go_beside_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradviz.renderers.layout.rows._ENOUGH", -60)
    boxes, links = chain(20)
    links += [Link(f"n{9 - i}", f"n{11 + i}") for i in range(9)] + [Link("n1", "n15")]
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    layout = lay_out(boxes, links)
    check((boxes, links), layout)
    outermost = min(x for x, _ in layout.routes[27])
    assert outermost == 0 < min(x for x, _ in layout.routes[19])


def tangle(count: int) -> Graph:
    """Every box uses three others from anywhere before it."""
    choose = random.Random(count)
    boxes = [Box(f"n{i}", 60, 30) for i in range(count)]
    ends = ((choose.randrange(i), i) for i in range(1, count) for _ in range(3))
    return boxes, [Link(f"n{source}", f"n{target}") for source, target in ends]


def test_the_work_is_counted_and_grows_with_the_graph() -> None:
    def work(count: int) -> int:
        graph, calls = tangle(count), 0

        def watch(frame: FrameType, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            layered(*graph)
        finally:
            sys.setprofile(before)
        return calls

    assert work(8_000) < 4.4 * work(2_000)


@pytest.mark.parametrize("work", [0, 10_000])
def test_a_graph_past_the_budget_is_drawn_all_the_same(
    work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradviz.renderers.layout.rows._CAREFUL", 0)
    monkeypatch.setattr("gradviz.renderers.layout.rows._WORK", work)
    monkeypatch.setattr("gradviz.renderers.layout.layered._FOUR", 0)
    monkeypatch.setenv("GRADVIZ_ENGINE", "layered")
    graph = tangle(60)
    check(graph, lay_out(*graph))


@given(graphs())
def test_crossings_are_counted_alike_at_once_and_one_by_one(graph: Graph) -> None:
    boxes, links = graph
    pairs = list(dict.fromkeys((int(a.source[1:]), int(a.target[1:])) for a in links))
    rows = cut_into_rows(rank(len(boxes), pairs), pairs)
    order_rows(rows)
    counts = set()
    for at_once in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gradviz.renderers.layout.rows._AT_ONCE", at_once)
            counts.add(count_crossings(rows))
    assert len(counts) == 1


def test_lanes_are_no_more_than_a_picture_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradviz.renderers.layout.rows._ENOUGH", -10_000)
    monkeypatch.setattr("gradviz.renderers.layout.rows._MOST_LANES", 3)
    boxes, links = chain(40)
    links += [Link(f"n{i}", f"n{39 - i}") for i in range(18)]
    _, routes = layered(boxes, links)
    assert len({min(x for x, _ in route) for route in routes[39:]}) == 3


def test_packing_fills_columns() -> None:
    corners = pack([(10, 100)] + [(10, 20)] * 4)
    assert corners[0] == (0, 0)
    assert [left for left, _ in corners[1:]] == [34, 34, 68, 68]


def test_links_that_go_the_same_way_between_rows_are_apart() -> None:
    boxes = [Box(key, 60, 30) for key in ("a", "b", "c", "d", "op")]
    _, routes = layered(boxes, [Link(key, "op") for key in "abcd"])
    turning = [route[1][1] for route in routes]
    assert turning[3] - turning[2] > 10  # d, which begins farther out, passes below c
    assert turning[0] == turning[2]  # a comes from the other side
