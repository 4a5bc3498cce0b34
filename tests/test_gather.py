"""`gradviz.gather`: one story of all ranks, through torchrun and from parts made here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from children import start

import gradviz
from gradviz.capture.autograd.collectives import Exchange
from gradviz.comparison.ranks import RankPart, latest_backward, own_part, story_of_ranks
from gradviz.errors import UsageError
from gradviz.facts import RankState
from gradviz.graph import EdgeKind, GradGraph, NodeKind, TensorSummary
from gradviz.serialize import loads, record_of, to_json
from gradviz.story import Frame, Story
from gradviz.wording import rank_notes, ranks_text

_LIMIT = 240  # seconds, for one torchrun
_HERE = Path(__file__).parent


def torchrun(ranks: int, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with several ranks, and end it when the limit is over."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_HERE.parent)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = start([*launcher, *command], cwd=cwd, env=environment, **pipes)
    try:
        said, _ = started.communicate(timeout=_LIMIT)
    finally:
        started.kill()
    return subprocess.CompletedProcess(command, started.returncode, said)


PROCESS = pytest.mark.process


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What rank 0 of four has gathered in each program."""
    folder = tmp_path_factory.mktemp("gathered räńks")
    done = torchrun(4, str(_HERE / "gather_programs.py"), str(folder), cwd=folder)
    assert done.returncode == 0, done.stdout
    told: dict[str, dict[str, Any]] = json.loads((folder / "found.json").read_text())
    return told


@PROCESS
def test_what_is_the_same_is_drawn_once(found: dict[str, dict[str, Any]]) -> None:
    text = found["averaged"]["text"]
    assert "ranks 0 to 3 of 4: the same structure, and the same .grad" in text
    assert text.count("head.weight") == 1
    assert text.count("over the ranks") == text.count("(the result: ") == 1
    assert found["averaged"]["told"] == "4 parameters  fine"


@PROCESS
def test_a_saved_story_draws_the_same(found: dict[str, dict[str, Any]]) -> None:
    for each in found.values():
        assert each["again"] == each["text"]


@PROCESS
def test_the_odd_rank_is_named(found: dict[str, dict[str, Any]]) -> None:
    text = found["one_is_odd"]["text"]
    assert text.count("over the ranks, rank 1: ") == 4
    assert "norm 4.243 – 424.3 over the ranks, rank 1: 424.3" in text
    assert found["one_is_odd"]["told"] == "4 parameters  fine"


@PROCESS
def test_not_finite_on_one_rank(found: dict[str, dict[str, Any]]) -> None:
    assert found["one_has_nan"]["text"].count("NaN or infinite on rank 1") == 4
    assert "rank 1: body.bias" in found["one_has_nan"]["told"]
    assert found["one_has_nan"]["told"].endswith("ranks 0, 2 and 3: 4 parameters  fine")


@PROCESS
def test_a_parameter_that_one_rank_does_not_use(found: dict[str, dict[str, Any]]) -> None:
    each = found["one_leaves_out_the_head"]
    assert "rank 1: head.bias" in each["told"]
    assert "DistributedDataParallel waits for its gradient" in each["told"]
    assert "find_unused_parameters=True" in each["told"]
    assert "rank 1 has another structure: 4 nodes less" in each["text"]
    assert each["text"].count("not in the graph of rank 1") == 3
    assert "2  rank 1, after backward 1" in each["text"]


@PROCESS
def test_a_rank_without_a_graph(found: dict[str, dict[str, Any]]) -> None:
    assert "(rank 1 has recorded no graph)" in found["one_has_no_graph"]["text"]
    told = found["one_has_no_graph"]["told"]
    assert told.startswith("rank 1: error (distributed)")
    assert told.endswith("ranks 0, 2 and 3: 4 parameters  fine")


@PROCESS
def test_stages_of_a_pipeline_are_not_compared(found: dict[str, dict[str, Any]]) -> None:
    text = found["a_stage_on_each"]["text"]
    assert all(f"rank {rank} has another structure)" in text for rank in (1, 2, 3))
    assert "over the ranks" not in text and "only here" not in text
    assert found["a_stage_on_each"]["told"] == "20 parameters  fine"


@PROCESS
def test_ranks_at_different_passes_are_not_compared(found: dict[str, dict[str, Any]]) -> None:
    text = found["one_is_a_pass_ahead"]["text"]
    assert "rank 1 is at backward pass 2, ranks 0, 2 and 3 at 1" in text
    assert "rank 1:" not in text


@PROCESS
def test_a_rank_that_lags_is_named_within_the_limit(found: dict[str, dict[str, Any]]) -> None:
    each = found["one_lags"]
    assert "rank 1 did not answer within 2 s" in each["text"]
    assert "ranks 0, 2 and 3 of 4: the same structure, and the same .grad" in each["text"]
    assert each["seconds"] < 12  # rank 1 sleeps for 15


_TRAIN = """
import os, sys, torch, torch.distributed as dist
from torch import nn
dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(2):
    if len(sys.argv) > 1 and step and dist.get_rank() == 1:
        os._exit(3)
    optimizer.zero_grad()
    loss = model(torch.ones(2, 3) * (1 + dist.get_rank())).sum()
    loss.backward()
    optimizer.step()
dist.destroy_process_group()
"""


@PROCESS
def test_the_command_writes_one_file_for_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "träin ü.py").write_text(_TRAIN, encoding="utf-8")
    command = ("-m", "gradviz", "record", "träin ü.py", "-o", "ranks.svg", "-o", "ranks.json")
    done = torchrun(2, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in tmp_path.glob("ranks*")) == ["ranks.json", "ranks.svg"]
    story = loads((tmp_path / "ranks.json").read_bytes())
    assert [each.state for each in story.ranks] == [RankState.GATHERED] * 2
    assert story.title == "2 ranks" and story[0].pass_number == 2
    assert "the same structure" in (tmp_path / "ranks.svg").read_text(encoding="utf-8")


@PROCESS
def test_the_command_saves_what_it_has_when_a_rank_dies(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_TRAIN, encoding="utf-8")
    command = ("-m", "gradviz", "record", "train.py", "-o", "ranks.json", "--", "die")
    done = torchrun(2, *command, cwd=tmp_path)
    assert done.returncode != 0
    assert sorted(path.name for path in tmp_path.glob("ranks*")) == [
        "ranks.json",
        "ranks.rank0.json",
    ]
    story = loads((tmp_path / "ranks.json").read_bytes())
    assert story.ranks[0].state is RankState.GATHERED
    assert story.ranks[1].state in (RankState.NO_ANSWER, RankState.STOPPED)
    assert "Warning: rank 1 " in done.stdout


# Without processes.


def _run(scale: float = 3.0) -> Any:
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        (w * scale).sum().backward()
    return run


def test_without_ranks_the_story_is_that_of_this_process() -> None:
    story = gradviz.gather(_run())
    assert story is not None
    assert (len(story), story[0].title, story.title) == (1, "rank 0, after backward 1", "")
    assert str(gradviz.explain(story)) == "1 leaf  fine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"run": 3}, "run must be a recording or a story, got 3"),
        ({"timeout": -1}, "timeout must be a number of seconds >= 0, got -1"),
        ({"timeout": float("nan")}, "timeout must be a number of seconds >= 0, got nan"),
        ({"timeout": "ö"}, "timeout must be a number of seconds >= 0, got 'ö'"),
    ],
)
def test_what_gather_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        gradviz.gather(**{"run": _run(), **arguments})


def test_a_recording_that_is_not_over_has_no_graph() -> None:
    story = gradviz.gather(gradviz.record())
    assert story is not None and story.ranks[0].state is RankState.NO_GRAPH
    assert len(story) == 0


def _graph(*grads: TensorSummary | None, name: str = "w 'ü' 😀") -> GradGraph:
    graph = GradGraph()
    graph.add_node("n9", kind=NodeKind.RESULT, name="loss", root=0)
    for number, grad in enumerate(grads):
        key = f"n{number}"
        graph.add_node(key, kind=NodeKind.PARAMETER, name=f"{name}{number}", grad=grad)
        graph.add_edge(key, "n9", number, kind=EdgeKind.GRADIENT, input=number)
    return graph


def _grad(norm: float) -> TensorSummary:
    return TensorSummary((9,), "float32", "cpu", norm=norm, min=0.0, max=norm)


def _gathered(*graphs: GradGraph, size: int = 0) -> Story:
    from gradviz.capture.tensors.names import Names

    parts, frames = [], {}
    for rank, graph in enumerate(graphs):
        part, frame = own_part(Story([Frame("", graph)]), rank, Names([]))
        parts.append(record_of(RankPart, json.loads(json.dumps(gradviz.serialize.plain(part)))))
        frames.setdefault(part.digest, frame)
    return story_of_ranks(parts, frames, size or len(graphs))


def test_a_gradient_that_is_missing_on_some_ranks() -> None:
    story = _gathered(_graph(None), _graph(_grad(1.0)), _graph(None), _graph(_grad(1.0)))
    assert "None on ranks 0 and 2" in gradviz.draw(story).text
    assert len(story) == 1


@pytest.mark.parametrize(
    ("norms", "text"),
    [
        ((1.0, 1.0, 1.0000001), ""),
        ((1.0, 2.0), "norm 1 – 2 over the ranks"),
        ((1.0, 2.0, 3.0), "norm 1 – 3 over the ranks"),
        ((1.0, 1.01, 0.0), "norm 0 – 1.01 over the ranks, rank 2: 0"),
    ],
)
def test_norms_over_the_ranks(norms: tuple[float, ...], text: str) -> None:
    drawn = gradviz.draw(_gathered(*(_graph(_grad(norm)) for norm in norms))).text
    assert (f"{text}\n" in drawn) if text else ("over the ranks" not in drawn)


def test_devices_of_ranks_do_not_differ() -> None:
    one, two = (replace(_grad(1.0), device=f"cuda:{rank}") for rank in (0, 1))
    assert not any(each.tensors for each in _gathered(_graph(one), _graph(two)).ranks)


def test_a_group_says_what_differs_inside() -> None:
    graphs = []
    for factor in (1.0, 5.0):
        graph = _graph()
        for number in range(40):
            graph.add_node(
                f"p{number}", kind=NodeKind.PARAMETER, name=f"p{number}", grad=_grad(factor)
            )
            graph.add_edge(f"p{number}", "n9", number, kind=EdgeKind.GRADIENT, input=number)
        graphs.append(graph)
    text = gradviz.draw(_gathered(*graphs)).text
    assert ".grad differs in 40 tensors" in text


def test_the_same_nodes_in_another_order_are_the_same_structure() -> None:
    graph, other = _graph(_grad(1.0), None), GradGraph()
    for key in ("n1", "n0", "n9"):
        other.add_node(f"m{key}", **graph.nodes[key])
    for number in (1, 0):
        other.add_edge(f"mn{number}", "mn9", number, kind=EdgeKind.GRADIENT, input=number)
    story = _gathered(graph, other)
    assert len(story) == 1 and not any(each.tensors for each in story.ranks)


def test_json_of_a_gathered_story() -> None:
    story = _gathered(_graph(_grad(1.0)), _graph(_grad(2.0)), size=3)
    text = to_json(story)
    assert to_json(loads(text)) == text
    assert loads(text).ranks == story.ranks


def test_the_notes_name_every_rank() -> None:
    story = _gathered(*(_graph(_grad(1.0)) for _ in range(70)), size=72)
    assert rank_notes(story.ranks, 0)[0] == (
        "ranks 0 to 69 of 72: the same structure, and the same .grad"
    )
    assert ranks_text([0, 1, 3, 5, 6, 7]) == "ranks 0, 1, 3 and 5 to 7"


def test_a_store_that_has_ended_gives_no_data() -> None:
    class Ended(dist.Store):
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("the server has ended")

    exchange = Exchange(Ended(), 0, 2, "test")
    exchange._store = Ended()
    assert exchange.receive("x", until=1e9) is None


def test_large_data_goes_in_pieces() -> None:
    exchange = Exchange(dist.HashStore(), 0, 2, "test")
    data = os.urandom(9 << 20)
    exchange.send("x", data)
    assert exchange.receive("x", until=0) == data
    assert exchange.receive("x", until=0) is None


def test_the_frame_after_the_latest_pass_is_gathered() -> None:
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], 0.1)
        (w * 3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert latest_backward(run.story).title.startswith("after backward 1")


def test_a_result_that_differs_is_noted_with_its_range() -> None:
    graphs = []
    for factor in (1.0, 2.0, math.inf):
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * factor).sum()
        graphs.append(gradviz.trace(loss, names={"loss": loss}))
    text = gradviz.draw(_gathered(*graphs)).text
    assert "loss: 3 – 6 over the ranks" in text
    assert "loss: NaN or infinite on rank 2" in text


def test_rows_of_other_ranks_are_not_joined() -> None:
    from gradviz.facts import SavedVerdict

    rows = [
        SavedVerdict("accumulated", name, "2 passes", ranks=ranks)
        for ranks, names in (((), "abc"), ((0,), "de"))
        for name in names
    ]
    text = str(gradviz.explain(Story(verdicts=rows)))
    assert "a and 2 more" in text and "rank 0: d" in text and "rank 0: e" in text
