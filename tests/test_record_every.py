"""``record(every=...)``: some steps are recorded, and of all steps the gradient norms are kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import gradviz
from gradviz.errors import UsageError
from gradviz.renderers.moments import heatmap, heatmap_text
from gradviz.story import GradientNorms, NormState, merged_norm


def train(steps: int, seed: int = 0) -> tuple[nn.Module, list[list[float]]]:
    """Train, and return the norms that torch itself computes."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer, norms = torch.optim.SGD(model.parameters(), 0.05), []
    for x in torch.randn(steps, 6, 4):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        with torch._C.DisableTorchFunction():
            norms.append([float(p.grad.norm()) for p in model.parameters()])  # type: ignore[union-attr]
        optimizer.step()
    return model, norms


def test_norms_of_all_steps_and_frames_of_some() -> None:
    with gradviz.record(every=10) as run:
        model, expected = train(35)
    norms = run.gradient_norms
    assert norms.names == tuple(f"model.{name}" for name, _ in model.named_parameters())
    assert norms.steps == tuple(range(1, 36)) and norms.last == 35
    for row, values in enumerate(zip(*expected, strict=True)):
        assert norms.norms[row] == pytest.approx(values, rel=1e-5)
    titles = [frame.title.partition(":")[0] for frame in run.frames]
    assert list(dict.fromkeys(titles)) == ["step 1", "step 11", "step 21", "step 31"]
    steps = [event for event in run.events if event.word == "step"]
    assert len(steps) == 4
    assert run.story.notes[-1].startswith("steps 1, 11, 21, ... are recorded (every=10)")


def test_the_numbers_of_the_program_stay_the_same() -> None:
    bare, _ = train(25)
    with gradviz.record(every=7):
        recorded, _ = train(25)
    for one, other in zip(bare.parameters(), recorded.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def test_between_recorded_steps_no_mode_is_active() -> None:
    seen = []
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradviz.record(every=4):
        for _ in range(10):
            seen.append(len(torch.overrides._get_current_function_mode_stack()))
            optimizer.zero_grad()
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    assert seen == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert not torch.overrides._get_current_function_mode_stack()


class Quiet(TorchFunctionMode):
    """A mode of the program's own."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def test_a_mode_that_the_program_entered_later_is_left_alone() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with gradviz.record(every=2) as run:
        for _ in range(6):
            with Quiet():
                optimizer.zero_grad()
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
    assert not torch.overrides._get_current_function_mode_stack()
    assert len(run.gradient_norms.steps) == 6


def test_what_is_no_norm_has_a_state_of_its_own() -> None:
    w, v, u = (torch.ones(3, requires_grad=True) for _ in range(3))
    optimizer = torch.optim.SGD([w, v, u], 0.0)
    with gradviz.record(every=100) as run:
        for number in range(5):
            w.grad = u.grad = None
            (w * (math.nan if number == 2 else float(number))).sum().backward()
            if number == 1:
                v.grad = torch.ones(3)
            optimizer.step()
    norms = run.gradient_norms
    assert norms.names == ("w", "v", "u")
    states = [[norms.state(row, column) for column in range(5)] for row in range(3)]
    none, stale, norm = NormState.NONE, NormState.STALE, NormState.NORM
    assert states[0] == [NormState.ZERO, norm, NormState.NOT_FINITE, norm, norm]
    assert states[1] == [none, norm, stale, stale, stale]
    assert states[2] == [none] * 5


def test_a_gradient_that_is_zeroed_in_place_is_not_stale() -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.0)
    with gradviz.record(every=100) as run:
        for _ in range(5):
            optimizer.zero_grad(set_to_none=False)
            (w * 2).sum().backward()
            optimizer.step()
    assert {run.gradient_norms.state(0, column) for column in range(5)} == {NormState.NORM}


def test_many_steps_share_columns_and_keep_what_is_odd() -> None:
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.0)
    with gradviz.record(every=1_000) as run:
        for number in range(2_500):
            w.grad = torch.full((2,), math.nan if number == 1_111 else 1.0)
            optimizer.step()
    norms = run.gradient_norms
    assert len(norms.steps) <= 1_024 and norms.last == 2_500
    bad = [at for at in range(len(norms.steps)) if norms.state(0, at) is NormState.NOT_FINITE]
    assert len(bad) == 1 and norms.steps[bad[0]] <= 1_112 < norms.steps[bad[0] + 1]


def test_norms_that_are_read_while_it_records_lose_no_step() -> None:
    w = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.0)
    odd, steps = {777: math.inf, 1_050: 0.0, 1_200: math.nan}, 1_500
    with gradviz.record(every=10_000) as run:
        for number in range(steps):
            w.grad = None if number % 7 == 3 else torch.full((1,), odd.get(number, 1.0 + number))
            optimizer.step()
            if number % 300 == 299:
                assert run.gradient_norms.last == number + 1
    norms = run.gradient_norms
    alone = [None if n % 7 == 3 else odd.get(n, 1.0 + n) for n in range(steps)]
    pairs = [merged_norm(alone[at : at + 2]) for at in range(0, steps, 2)]
    assert norms.last == steps and norms.steps == tuple(range(1, steps, 2))
    assert str(list(norms.norms[0])) == str(pairs)


def test_two_optimizers_and_sparse_gradients() -> None:
    table, layer = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 1)
    one = torch.optim.SGD(layer.parameters(), 0.1)
    other = torch.optim.SparseAdam(list(table.parameters()), 0.1)
    with gradviz.record(every=3) as run:
        for number in range(7):
            one.zero_grad()
            other.zero_grad()
            layer(table(torch.tensor([1, 2, 1]))).sum().backward()
            one.step()
            if number % 2:
                other.step()
    norms = run.gradient_norms
    assert norms.names == ("layer.weight", "layer.bias", "table.weight")
    assert norms.norms[2][:3] != (None,) * 3 and norms.norms[2][3:] == (None,) * 4


ODD = GradientNorms(
    ("w 'a' 😀", "größe", "b"),
    (1, 2, 3),
    ((1.0, 100.0, None), (math.nan, 0.0, 1.0), (2.0, 2.0, 2.0)),
    ((False, False, False), (False, False, False), (False, True, True)),
    3,
)


def test_the_text_has_a_letter_for_each_cell_and_says_what_it_means() -> None:
    assert heatmap_text(ODD).splitlines() == [
        "w 'a' 😀  19-",
        "größe    !01",
        "b        2==",
        "",
        "steps 1 to 3",
        "1 to 9: norms from 1 to 100, logarithmic; -: no gradient; 0: zeros; !: NaN or infinite; "
        "=: not changed since the step before",
    ]


def test_the_picture_marks_what_is_no_norm_and_has_a_legend() -> None:
    scene = heatmap(ODD, "norms")
    words = [
        word.text
        for group in scene.groups
        for shape in group.shapes
        if hasattr(shape, "words")
        for word in shape.words
    ]
    assert words[:2] == ["norms", "w 'a' 😀"]
    assert "norm of the gradient, 1 to 100, logarithmic" in words
    assert {state.value for state in NormState if state is not NormState.NORM} <= set(words)
    svg = ODD.draw(title="norms").svg
    assert "prefers-color-scheme: dark" in svg and "größe" in svg


@pytest.mark.parametrize("format", ["svg", "png", "txt"])
def test_it_can_be_saved(format: str, tmp_path: Path) -> None:
    assert ODD.save(tmp_path / f"norms with space.{format}").stat().st_size > 100


def test_no_step_is_an_empty_picture() -> None:
    with gradviz.record(every=5) as run:
        torch.ones(2, requires_grad=True).sum().backward()
    assert "no step yet" in str(run.gradient_norms)
    assert run.gradient_norms.draw().svg


@pytest.mark.parametrize("every", [1, 0, -3, 2.5, "100", True])
def test_every_must_be_a_number_of_steps(every: Any) -> None:
    with pytest.raises(UsageError, match="every must be an integer >= 2, got"):
        gradviz.record(every=every)


def test_norms_need_every() -> None:
    with gradviz.record() as run:
        pass
    with pytest.raises(UsageError, match="every=100"):
        _ = run.gradient_norms


def test_norms_are_not_drawn_as_a_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format must be one of svg, png, pdf, eps, txt"):
        ODD.save(tmp_path / "norms.html")
