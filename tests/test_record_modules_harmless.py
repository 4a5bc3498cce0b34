"""What a recording does to find modules leaves no trace in the program."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from recording import modules_of, no_hook_is_left, strict
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.modules import module as torch_modules

import gradviz

__all__ = ["no_hook_is_left", "strict"]

pytestmark = pytest.mark.usefixtures("no_hook_is_left")


class Block(nn.Module):
    """Something to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).sin()


def test_nothing_changes_for_the_program() -> None:
    def train(model: nn.Module) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        return [parameter.detach().clone() for parameter in model.parameters()]

    torch.manual_seed(0)
    bare = nn.Sequential(nn.Linear(4, 2), nn.Dropout(), Block())
    watched = copy.deepcopy(bare)
    torch.manual_seed(1)
    expected = train(bare)
    torch.manual_seed(1)
    with gradviz.record(watched):
        found = train(watched)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_copy_or_file_made_during_the_recording_knows_nothing_of_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    with gradviz.record(model):
        twin = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model, file)
    file.seek(0)
    for each in (*model.modules(), *twin.modules(), *torch.load(file, weights_only=False)):
        assert not each._forward_hooks and not each._forward_pre_hooks
    assert b"gradviz" not in file.getvalue()


@pytest.mark.filterwarnings("error:Using .torch.compile")
def test_compiled_modules_are_not_compiled_again() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = nn.Sequential(nn.Linear(2, 2), Block())
    model[1] = torch.compile(model[1], backend=counter, fullgraph=True)
    data = torch.ones(1, 2)
    bare = model(data)
    for _ in range(3):
        with gradviz.record(model) as run:
            watched = model(data)
            watched.sum().backward()
    assert torch.equal(bare, watched)
    assert counter.frame_count <= 2  # once without and once with a recording
    found = modules_of(run.frames[0].graph)
    assert found == {"0": ["addmm"], "1": ["compiled"], "": ["sum"]}


def test_without_modules_nothing_is_said() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with gradviz.record() as run:
        assert not torch_modules._global_forward_hooks
        model(torch.ones(1, 2)).sum().backward()
    assert set(modules_of(run.frames[0].graph)) == {"unknown"}
