"""What a recording is used for besides its end: shown before it, copied, sent elsewhere."""

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
