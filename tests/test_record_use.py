"""What a recording is used for besides its end: shown before it, copied, sent elsewhere."""

import asyncio
import copy
import pickle

import pytest
import torch

import gradviz
from gradviz import serialize
from gradviz.errors import UsageError
from gradviz.facts import EventKind, FrameKind
from gradviz.graph import Cause


def test_before_the_first_moment_all_say_that_there_is_none():
    with gradviz.record() as run:
        w = torch.ones(2, requires_grad=True)
        loss = (w * 2).sum()
        asks = (
            lambda: gradviz.draw(run),
            lambda: run.draw(),
            lambda: gradviz.summary(run),
            lambda: gradviz.explain(run),
            lambda: gradviz.explain(w, loss, run),
        )
        for ask in asks:
            with pytest.raises(UsageError, match=r'has no frame yet: .* run\.mark\("now"\)'):
                ask()
        assert "has no frame yet" in run._repr_html_()
        assert run.frames == ()
        run.mark("now")
        assert str(gradviz.draw(run)).splitlines()[-1].startswith("2 operations from 1 leaf")
        loss.backward()
    titles = [frame.title for frame in run.frames]
    assert titles == ["mark: now", "after backward 1 (w.grad +2)"]
    assert str(gradviz.explain(w, run)).startswith("w: fine")


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_recording_says_what_to_take_instead_of_a_copy(way):
    with gradviz.record() as run:
        (torch.ones(2, requires_grad=True) * 2).sum().backward()
    with pytest.raises(UsageError, match=r"cannot be pickled .* frames and events, run"):
        way(run)
    assert [frame.title for frame in pickle.loads(pickle.dumps(run.story))] == [
        frame.title for frame in run.frames
    ]


@pytest.mark.parametrize("way", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy])
def test_a_drawing_goes_elsewhere_whole(way):
    with gradviz.record() as run:
        (torch.ones(2, requires_grad=True) * 2).sum().backward()
    views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module(depth=2)]
    for drawing in (gradviz.draw(run), gradviz.draw(run, views=views)):
        sent = way(drawing)
        assert (sent.svg, sent.text) == (drawing.svg, drawing.text)
        assert way(drawing).svg == drawing.svg  # also once it is laid out


def test_leaving_a_recording_that_was_never_entered_is_one_line():
    with pytest.raises(UsageError, match=r"this recording is new, so its block cannot end"):
        gradviz.record().__exit__(None, None, None)


@pytest.mark.parametrize("name", ["run.svg", "run.json", "a run.txt", "größe.html"])
def test_a_recording_saves_itself(tmp_path, name):
    with gradviz.record() as run:
        (torch.ones(2, requires_grad=True) * 2).sum().backward()
    path = run.save(tmp_path / name, title="one pass")
    assert path == tmp_path / name and path.stat().st_size > 50
    if path.suffix == ".json":
        assert [str(event) for event in serialize.load(path).events] == [
            str(event) for event in run.events
        ]


def test_a_decorated_function_is_recorded_at_each_call():
    w = torch.ones(2, requires_grad=True)

    @gradviz.record(max_frames=3)
    def step(factor):
        """One step."""
        if factor > 1:
            step(factor - 1)
        (w * factor).sum().backward()
        return factor

    first = step.recording
    assert (step.__name__, step.__doc__) == ("step", "One step.") and not first.frames
    assert step(1) == 1 and step.recording is first
    assert [event.name for event in first.events if event.word == "accumulate_grad"] == ["w.grad"]
    assert step(2) == 2 and step.recording is not first
    assert sum(event.word == "backward" for event in step.recording.events) == 2
    with pytest.raises(ZeroDivisionError):
        gradviz.record()(lambda: 1 / 0)()


def test_functions_whose_code_runs_later_are_not_decorated():
    async def late():
        pass

    def generator():
        yield

    for function in (late, generator, 3):
        with pytest.raises(UsageError, match=r"record\(\) decorates plain functions, got"):
            gradviz.record()(function)


def test_the_operations_of_another_task_are_not_recorded():
    async def work(name, count):
        for _ in range(count):
            x = torch.ones(2, requires_grad=True)
            (x * 2).sum().backward()
            await asyncio.sleep(0)

    async def recorded():
        with gradviz.record() as run:
            await work("mine", 3)
        return run

    async def both():
        return await asyncio.gather(recorded(), work("other", 5), work("third", 4))

    run = asyncio.run(both())[0]
    words = [event.word for event in run.events]
    assert (words.count("mul"), words.count("backward"), words.count("ones")) == (3, 3, 3)
    assert not run.story.notes


def test_two_tasks_cannot_record_by_turns_and_can_one_after_the_other():
    async def recorded(pause):
        with gradviz.record() as run:
            (torch.ones(2, requires_grad=True) * 2).sum().backward()
            await asyncio.sleep(pause)
        return run

    async def by_turns():
        return await asyncio.gather(recorded(0.01), recorded(0), return_exceptions=True)

    first, second = asyncio.run(by_turns())
    assert isinstance(second, UsageError) and "another asyncio task" in str(second)
    assert [event.word for event in first.events].count("backward") == 1
    assert asyncio.run(recorded(0)).frames
    with gradviz.record() as outer, gradviz.record() as inner:  # one task may nest them
        (torch.ones(2, requires_grad=True) * 2).sum().backward()
    assert len(outer.frames) == len(inner.frames)


def test_no_grad_in_the_closure_of_a_step_is_recorded():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=2)

    def closure():
        optimizer.zero_grad()
        with torch.no_grad():
            scale = (w * 2).sum()
        loss = (w * scale).sum()
        loss.backward()
        return loss

    with gradviz.record() as run:
        optimizer.step(closure)
    forward = next(f.graph for f in run.frames if f.kind is FrameKind.FORWARD)
    causes = [d["cause"] for *_, d in forward.edges(data=True) if "cause" in d]
    assert Cause.NO_GRAD in causes
    modes = [event.location.text for event in run.events if event.kind is EventKind.MODE]
    assert set(modes) == {"with torch.no_grad():"}
    steps = [event for event in run.events if event.kind is EventKind.STEP]
    assert len(steps) == 1
