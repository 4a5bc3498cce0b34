"""Each worked example runs as a program and prints these numbers."""

import ast
import re
import runpy
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from gradviz.story import Story

NUMBER = re.compile(r"-?\d+\.\d+")
ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples"
ORDER = runpy.run_path(str(FOLDER / "__init__.py"))["ORDER"]

PRINTED = {
    "five_ways": """
        tracked:         tensor(12., grad_fn=<SumBackward0>)
        detach:          tensor(12.)
        no_grad:         tensor(12.)
        inference_mode:  tensor(12.)
        requires_grad_:  tensor(12.)
        """,
    "requires_grad": """
        x       = tensor([1., 2., 3.], requires_grad=True)
        added   = tensor([3., 4., 5.], grad_fn=<AddBackward0>)
        doubled = tensor([2., 4., 6.], grad_fn=<MulBackward0>)
        squared = tensor([ 2.,  8., 18.], grad_fn=<MulBackward0>)
        loss    = tensor(9.3333, grad_fn=<MeanBackward0>)
        x.grad  = None
        """,
    "first_backward": """
        before: None
        after:  tensor([3., 3., 3., 3.])
        """,
    "vector_backward": """
        x                     = tensor([-2.2168,  0.1898,  1.4724])
        from the mean, x.grad = tensor([0.3333, 0.3333, 0.3333])
        4 * x * v             = tensor([-0.8867,  0.7591,  0.0059])
        both added, x.grad    = tensor([-0.5534,  1.0924,  0.3392])
        """,
    "repeated_backward": """
        backward 1, not cleared: tensor([3., 3.])
        backward 2, not cleared: tensor([6., 6.])
        backward 3, not cleared: tensor([9., 9.])
        backward 1, cleared:     tensor([3., 3.])
        backward 2, cleared:     tensor([3., 3.])
        backward 3, cleared:     tensor([3., 3.])
        """,
    "gradient_descent": """
        step        a        b       da       db   by hand: the same four
           0   0.0000   0.0000  -7.9000 -16.6000   0.0000   0.0000  -7.9000 -16.6000
           1   0.7900   1.6600  -1.3400  -2.6100   0.7900   1.6600  -1.3400  -2.6100
           2   0.9240   1.9210  -0.2890  -0.3810   0.9240   1.9210  -0.2890  -0.3810
          10   1.0067   1.9437  -0.0555   0.0260   1.0067   1.9437  -0.0555   0.0260
         100   1.0996   1.9002  -0.0002   0.0001   1.0996   1.9002  -0.0002   0.0001
         400   1.1000   1.9000  -0.0000   0.0000   1.1000   1.9000  -0.0000   0.0000
        optimum: [1.1 1.9]
        reached to 1e-6: True
        by hand equal to 1e-6: True
        """,
    "missing_grad": """
        scaled: leaf False grad None
        moved:  leaf False grad None
        kept:   leaf False grad tensor([5., 5., 5.])
        right:  leaf True grad tensor([5., 5., 5.])
        """,
    "frozen_layer": """
        middle frozen: tensor([[2.]]) None tensor([[2.]])
        first as well: None None tensor([[2.]])
        """,
    "two_layer_network": """
        step   0  loss 0.2924
        step  25  loss 0.2047
        step  50  loss 0.1388
        step  75  loss 0.0590
        step 100  loss 0.0124
        gradient norm of 0.weight 0.0306
        gradient norm of 0.bias   0.0255
        gradient norm of 2.weight 0.0363
        gradient norm of 2.bias   0.0140
        outputs tensor([0.0734, 0.8988, 0.9078, 0.1474])
        """,
    "shared_trunk": """
        loss alone:      tensor(5.)
        with penalty:    tensor(7.)
        penalty again:   Trying to backward through the graph a second time
        one backward:    tensor(7.)
        """,
    "in_place": """
        doubled: version 1  backward gives tensor([2., 2.])
        changed: version 1  backward raises: one of the variables needed for gradient \
computation has been modified by an inplace operation: [torch.FloatTensor [2]], which is \
output 0 of Exp, is at version 1; expected version 0 instead
        repaired: version 0 backward gives tensor([1.0000, 2.7183])
        """,
    "double_backward": """
        y         = 27.0000
        slope     = 27.0000
        curvature = 18.0000
        x.grad    = 540.0000
        """,
    "custom_function": """
        torch.round:   x.grad = tensor([0., 0., 0.])
        StraightRound: x.grad = tensor([0., 2., 6.])
        grad_fn of a rounded x: StraightRoundBackward
        """,
    "adversary": """
        the critic's turn:    critic tensor(6.)  generator None
        the generator's turn: critic tensor(-6.)  generator tensor(-1.5000)
        """,
    "target_network": """
        under no_grad: network tensor(-4.)  target None
        forgotten:     network tensor(-4.)  target tensor(12.)
        """,
    "truncated_backprop": """
        window 1: loss 0.0515  w.grad 0.3684
        window 2: loss 0.0032  w.grad 0.3937
        """,
    "rnn": """
        loss 0.0593
        largest gradient at state  1: 2.038e-18
        largest gradient at state 10: 1.654e-15
        largest gradient at state 20: 2.224e-12
        largest gradient at state 30: 1.428e-08
        largest gradient at state 40: 4.071e-05
        largest gradient at state 50: 1.863e-01
        gradient at the weights, all steps added: 0.1542
        """,
}


def variables_of(name: str) -> dict[str, object]:
    """Run an example in this process, as ``gradviz draw`` does, for its variables."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        return runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")


def test_order_lists_every_example_once() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert sorted(ORDER) == sorted(files) == sorted(PRINTED)


@pytest.mark.parametrize("name", ORDER)
def test_prints_its_numbers(name: str) -> None:
    run = subprocess.run(
        [sys.executable, f"examples/{name}.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stderr == ""
    expected = textwrap.dedent(PRINTED[name]).lstrip()
    assert NUMBER.sub("#", run.stdout) == NUMBER.sub("#", expected)
    numbers = [float(number) for number in NUMBER.findall(run.stdout)]
    # Each kind of processor adds up in another order, and a hundred steps of training show it.
    rounding = {"rel": 0.03, "abs": 1e-3} if name == "two_layer_network" else {"rel": 1e-9}
    assert numbers == pytest.approx([float(n) for n in NUMBER.findall(expected)], **rounding)


@pytest.mark.parametrize("name", ORDER)
def test_has_something_to_draw(name: str) -> None:
    variables = variables_of(name)
    assert isinstance(variables["loss"], torch.Tensor)
    story = variables.get("story")
    if story is not None:
        assert isinstance(story, Story)
        assert len(story) >= 2
        assert all(frame.title and frame.graph.number_of_nodes() for frame in story)


@pytest.mark.parametrize("name", ORDER)
def test_is_a_short_lesson(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    lesson = ast.get_docstring(ast.parse(source))
    assert lesson is not None
    title, blank, *lines = lesson.splitlines()
    assert title and not blank
    assert 2 <= len(lines) <= 6
    assert ("import gradviz" in source) == ("story = " in source)


def test_torch_and_numpy_walk_the_same_path() -> None:
    variables = variables_of("gradient_descent")
    by_torch = np.array(variables["path"])
    by_hand = np.array(variables["path_by_hand"])
    assert by_torch.shape == by_hand.shape == (401, 4)
    assert np.abs(by_torch - by_hand).max() <= 1e-6
    assert np.abs(by_torch[-1] - [1.1, 1.9, 0.0, 0.0]).max() <= 1e-6
