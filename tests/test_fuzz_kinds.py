"""Kinds of faults that random programs found, which are not about one verdict and one line.

`explain` of an error keeps no variable of the program alive; warnings point to the program; a
damaged file is refused in one line. The other kinds are in ``tests/forum/kinds/f_variants.txt``.
"""

from __future__ import annotations

import gc
import json
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import gradviz
from gradviz.frontends.cli import cli


def _second_grad() -> None:
    x = torch.ones(3, requires_grad=True)
    loss = (x * x).sum()
    torch.autograd.grad(loss, x)
    torch.autograd.grad(loss, x)


def _written_under_no_grad() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.sigmoid()
    with torch.no_grad():
        y.zero_()
    y.sum().backward()


def _unused() -> None:
    x, y = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    torch.autograd.grad((x * 2).sum(), [x, y])


def _in_a_list() -> None:
    x = torch.ones(3, requires_grad=True)
    [each.numpy() for each in (x * 1, x * 2)]


def _frozen() -> None:
    torch.nn.Linear(2, 2).requires_grad_(False)(torch.ones(2)).sum().backward()


def _no_error_of_autograd() -> None:
    torch.nn.Linear(2, 2)(torch.ones(3))


@pytest.mark.parametrize(
    "make",
    [
        *(_second_grad, _written_under_no_grad, _unused, _in_a_list, _frozen),
        _no_error_of_autograd,
    ],
)
def test_explaining_an_error_keeps_no_variable(make: Callable[[], None]) -> None:
    def program() -> tuple[Any, Any]:
        large = torch.ones(1000)
        told = None
        try:
            with gradviz.record() as run:
                make()
        except RuntimeError as error:
            told = gradviz.explain(error, run)
        return told, weakref.ref(large)

    told, reference = program()
    gc.collect()
    assert str(told)
    assert reference() is None


def _read_grad_of_a_result(x: torch.Tensor) -> None:
    (x * 2).grad  # noqa: B018


def _broadcast_target(x: torch.Tensor) -> None:
    torch.nn.functional.mse_loss(x * 2, torch.ones(2, 1, 2))


def _copy_of_a_tensor(x: torch.Tensor) -> None:
    torch.tensor(x.detach())


def _imaginary_part_dropped(x: torch.Tensor) -> None:
    (x.detach() * 1j).to(torch.float32)


def _own_warning(x: torch.Tensor) -> None:
    warnings.warn("own", UserWarning, stacklevel=2)


def _scheduler_before_step(x: torch.Tensor) -> None:
    torch.optim.lr_scheduler.StepLR(torch.optim.SGD([x], lr=0.1), 1).step()


@pytest.mark.parametrize(
    "warn",
    [
        *(_read_grad_of_a_result, _broadcast_target, _copy_of_a_tensor, _imaginary_part_dropped),
        *(_own_warning, _scheduler_before_step),
    ],
)
def test_warnings_point_to_the_line_that_they_point_to_without_a_recording(
    warn: Callable[[torch.Tensor], None],
) -> None:
    def program() -> None:
        for _ in range(2):
            warn(torch.ones(2, 2, requires_grad=True))
        warn(torch.ones(2, 2, requires_grad=True))

    def places(recorded: bool) -> list[tuple[str, int, str]]:
        globals().pop("__warningregistry__", None)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")
            if recorded:
                with gradviz.record():
                    program()
            else:
                program()
        return [(each.filename, each.lineno, str(each.message)) for each in found]

    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        bare = places(recorded=False)
        assert bare
        assert places(recorded=True) == bare
    finally:
        torch.set_warn_always(always)


def _frames() -> dict[str, Any]:
    x = torch.ones(3, requires_grad=True)
    found: dict[str, Any] = json.loads(
        gradviz.draw((x.exp() * 2).sum()).render("json").decode("utf-8")
    )
    return found


def _cycle(frame: dict[str, Any]) -> None:
    edge = dict(frame["edges"][0])
    edge["source"], edge["target"] = edge["target"], edge["source"]
    frame["edges"].append(edge)


def _large_integer(frame: dict[str, Any]) -> None:
    frame["nodes"][0]["shape"] = [10**400]


def _text_as_shape(frame: dict[str, Any]) -> None:
    frame["nodes"][0]["shape"] = "three\nby three"


def _long_key(frame: dict[str, Any]) -> None:
    frame["edges"][0]["source"] = "n" * 5000


def _unknown_kind(frame: dict[str, Any]) -> None:
    frame["nodes"][0]["kind"] = "é\n" * 2000


def _node_twice(frame: dict[str, Any]) -> None:
    frame["nodes"].append(dict(frame["nodes"][0]))


@pytest.mark.parametrize(
    "damage", [_cycle, _large_integer, _text_as_shape, _long_key, _unknown_kind, _node_twice]
)
@pytest.mark.parametrize("name", ["run.json", "two\nlines 'größe' 🎉.json"])
def test_a_damaged_file_is_refused_in_one_short_line(
    damage: Callable[[dict[str, Any]], None], name: str, tmp_path: Path
) -> None:
    story = _frames()
    frames = story.get("frames", [story])
    damage(frames[0])
    path = tmp_path / name
    path.write_text(json.dumps(story), encoding="utf-8")
    done = CliRunner().invoke(
        cli, ["draw", str(path), "-o", str(tmp_path / "out.txt")], prog_name="gradviz"
    )
    assert done.exit_code
    assert len(done.output.strip().splitlines()) == 1, done.output
    assert len(done.output) < 400
