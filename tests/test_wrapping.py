"""Tall pictures in columns: the same boxes, the same links, nothing drawn over a box."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradviz
from gradviz.renderers.layout.engines import lay_out
from gradviz.renderers.layout.routing import Box, Layout, Link, Point, Route
from gradviz.renderers.layout.wrapping import wrap
from gradviz.views import hide_bookkeeping


def along(route: Route, steps: int = 12) -> list[Point]:
    """Points on a route, close to each other."""
    found = []
    for start in range(0, len(route) - 1, 3):
        a, b, c, d = route[start : start + 4]
        for step in range(steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            found.append(
                (
                    sum(w * p[0] for w, p in zip(weights, (a, b, c, d), strict=True)),
                    sum(w * p[1] for w, p in zip(weights, (a, b, c, d), strict=True)),
                )
            )
    return found


def inside(point: Point, box: Box, center: Point, slack: float = 1.0) -> bool:
    return (
        abs(point[0] - center[0]) < box.width / 2 - slack
        and abs(point[1] - center[1]) < box.height / 2 - slack
    )


def check(boxes: list[Box], links: list[Link], before: Layout, after: Layout) -> None:
    sizes = {box.key: box for box in boxes}
    assert after.centers.keys() == before.centers.keys()
    assert len(after.routes) == len(links)
    for box in boxes:
        x, y = after.centers[box.key]
        assert box.width / 2 - 0.1 <= x <= after.width - box.width / 2 + 0.1
        assert box.height / 2 - 0.1 <= y <= after.height - box.height / 2 + 0.1
        for other in boxes:
            if other.key > box.key:
                dx = abs(x - after.centers[other.key][0])
                dy = abs(y - after.centers[other.key][1])
                apart = (box.width + other.width) / 2 <= dx + 0.1
                assert apart or (box.height + other.height) / 2 <= dy + 0.1
    for link, old, new in zip(links, before.routes, after.routes, strict=True):
        assert len(new) % 3 == 1
        for end, at in ((link.source, 0), (link.target, -1)):
            (ox, oy), (nx, ny) = before.centers[end], after.centers[end]
            assert new[at] == pytest.approx((old[at][0] - ox + nx, old[at][1] - oy + ny), abs=0.1)
        for box in boxes:
            if box.key not in (link.source, link.target):
                touched = any(
                    inside(p, sizes[box.key], before.centers[box.key]) for p in along(old)
                )
                center = after.centers[box.key]
                assert touched or not any(inside(p, sizes[box.key], center) for p in along(new))


def chain(length: int, skips: list[tuple[int, int]]) -> tuple[list[Box], list[Link]]:
    boxes = [Box(str(n), 60.0 + 20 * (n % 3), 30.0) for n in range(length)]
    links = [Link(str(a), str(b)) for a, b in pairwise(range(length))]
    links += [Link(str(a), str(b)) for a, b in skips if b < length]
    return boxes, links


@given(
    st.integers(30, 90),
    st.lists(st.tuples(st.integers(0, 80), st.integers(2, 9)), max_size=5),
)
def test_columns_keep_every_box_and_link(length: int, skips: list[tuple[int, int]]) -> None:
    boxes, links = chain(length, [(a, a + n) for a, n in skips])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADVIZ_ENGINE", "layered")
        tall = lay_out(boxes, links)
    wide = wrap(boxes, tall)
    assert wide == wrap(boxes, tall)
    check(boxes, links, tall, wide)


def test_a_long_chain_becomes_columns() -> None:
    boxes, links = chain(60, [])
    wide = wrap(boxes, lay_out(boxes, links))
    assert "columns" in wide.engine
    assert 0.4 < wide.height / wide.width < 1.5


def test_what_cannot_be_cut_stays_whole() -> None:
    """Five long links side by side would be a tangle in the gutter."""
    boxes, links = chain(60, [(n, 59 - n) for n in range(5)])
    tall = lay_out(boxes, links)
    assert wrap(boxes, tall) is tall


def test_small_pictures_stay_whole() -> None:
    boxes, links = chain(8, [])
    tall = lay_out(boxes, links)
    assert wrap(boxes, tall) is tall


@pytest.mark.parametrize("seed", [0, 8, 16])  # the boxes are as wide as their numbers
def test_a_deep_network_fits_a_screen(seed: int) -> None:
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(4, 4) if n % 2 else torch.nn.Tanh() for n in range(30)]
    loss = torch.nn.Sequential(*layers)(torch.ones(1, 4)).sum()
    svg = gradviz.draw(loss, views=[hide_bookkeeping], names=False).svg
    assert "columns" in svg
    head = svg[:200].split('"')
    width, height = float(head[3]), float(head[5])
    assert height < 1.2 * width


def test_rows_from_left_to_right_are_as_long_as_the_page() -> None:
    boxes, links = chain(60, [])
    tall = lay_out(boxes, links)
    rows = wrap(boxes, tall, is_turned=True)
    assert "rows" in rows.engine
    assert 900 < rows.height <= 1340
    assert rows.width < rows.height
    boxes, links = chain(12, [])
    short = lay_out(boxes, links)
    assert wrap(boxes, short, is_turned=True) is short
