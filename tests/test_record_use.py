"""What a recording is used for besides its end: shown before it, copied, sent elsewhere."""

import copy
import pickle

import pytest
import torch

import gradviz
from gradviz.errors import UsageError


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
            with pytest.raises(UsageError, match=r'holds no moment yet: .* run\.mark\("now"\)'):
                ask()
        assert "holds no moment yet" in run._repr_html_()
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
    with pytest.raises(UsageError, match=r"cannot be pickled or copied, .* take its moments, run"):
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
