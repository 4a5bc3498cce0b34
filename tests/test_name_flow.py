"""Which numbers are known not to be used by a result: never a wrong "not used"."""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Callable

import pytest

from gradviz.diagnosis.name_flow import is_unused_by, is_used_by
from gradviz.facts import SourceLocation

# In each program, the line that assigns k is looked at, and the result is loss.
UNUSED = {
    "another number": """
        k = w.item()
        s = v.item()
        loss = (x * s).sum()
        """,
    "printed and logged": """
        k = w.item()
        print(f"scale {k:.3f}", k)
        writer.add_scalar("k", k, 3)
        loss = x.sum()
        """,
    "collected in a list": """
        seen = []
        k = w.item()
        seen.append(k)
        loss = x.sum()
        """,
    "appended to a list": """
        seen = []
        s = v.item()
        seen.append(w.sum().item())  # k = 1
        loss = (x * s).sum()
        """,
    "in a function": """
        def step(x, w):
            k = round(w.max().item(), 3)
            loss = torch.clamp(x, max=2).sum()
            logger.info("max %s", k)
            return loss
        """,
    "in another branch of arithmetic": """
        k = w.item()
        shown = math.sqrt(k) + 1
        loss = model(x).mean()
        if shown > 3: print(shown)
        """,
    "asserted": """
        k = w.item()
        assert k > 0
        loss = x.sum()
        """,
}

USED = {
    "appended to a list that is used": """
        seen = []
        seen.append(w.sum().item())  # k = 1
        loss = (x * seen[0]).sum()
        """,
    "appended to a list that is an argument": """
        def step(seen, x, w):
            seen.append(w.sum().item())  # k = 1
            loss = compute(x)
            loss.backward()
        """,
    "appended to a list with another name": """
        seen = meters.seen
        seen.append(w.sum().item())  # k = 1
        loss = meters.total() * x
        """,
    "appended to an attribute": """
        self.seen.append(w.sum().item())  # k = 1
        loss = x.sum()
        """,
    "directly": """
        k = w.item()
        loss = (x * k).sum()
        """,
    "through names": """
        k = w.item()
        a, b = k + 1, 2
        h = x * a
        loss = h.sum()
        """,
    "by a method of a class": """
        k = w.item()
        class Net(nn.Module):
            def forward(self, x):
                return x * k
        net = Net()
        loss = net(x).sum()
        """,
    "by a function": """
        k = w.item()
        def scaled(x): return x * k
        loss = scaled(x)
        """,
    "by an async function": """
        k = w.item()
        async def scaled(x):
            y = x * k
            done(y)
        loss = asyncio.run(scaled(x))
        """,
    "returned": """
        def step(x, w, scale):
            k = w.item()
            loss = (x * scale).sum()
            return loss, k
        """,
    "yielded": """
        def steps(x, w, scale):
            k = w.item()
            loss = x.sum()
            yield k
        """,
    "stored by a call whose result is kept": """
        k = w.item()
        _ = buffer.push(k)
        loss = buffer.total() * x
        """,
    "stored in an object by another name": """
        seen = meters.seen
        k = w.item()
        seen.append(k)
        loss = meters.total() * x
        """,
    "stored in an object that others see": """
        def step(self, x, w):
            k = w.item()
            self.scale = k
            loss = compute(x)
            loss.backward()
        """,
    "stored in an argument": """
        def step(seen, x, w):
            k = w.item()
            seen.append(k)
            loss = compute(x)
            loss.backward()
        """,
    "stored in an argument with the name of a built-in function": """
        def step(input, x, w):
            k = w.item()
            input.push(k)
            loss = compute(x)
            loss.backward()
        """,
    "stored as an attribute": """
        k = w.item()
        model.scale = k
        loss = model(x)
        """,
    "stored as an item": """
        k = w.item()
        table["scale"] = k
        loss = x * table["scale"]
        """,
    "given to a function with a memory": """
        total = []
        def keep(a):
            total.append(a)
        k = w.item()
        keep(k)
        loss = x * sum(total)
        """,
    "as a condition": """
        k = w.item()
        if k > 1:
            s = 2
        else:
            s = 3
        loss = (x * s).sum()
        """,
    "as the number of repeats": """
        k = w.item()
        for _ in range(int(k)):
            x = x * 2
        loss = x.sum()
        """,
    "as a context": """
        k = w.item()
        with scaled_by(k):
            loss = model(x)
        """,
    "added in place": """
        k = w.item()
        x += k
        loss = x.sum()
        """,
    "in place, in a call whose result is kept": """
        k = w.item()
        y = x.mul_(k)
        loss = x.sum()
        """,
    "in a walrus": """
        k = w.item()
        loss = (x * (s := k + 1)).sum() * s
        """,
    "in a match": """
        k = w.item()
        match k:
            case 1: s = 2
            case other: s = other
        loss = x * s
        """,
    "a global": """
        def step(x, w):
            global k
            k = w.item()
            loss = compute(x)
        """,
    "in a class body": """
        class Config:
            k = w.item()
            loss = 3
        """,
    "an attribute": """
        self.k = w.item()
        loss = x.sum()
        """,
    "a result of another function": """
        def step(x, w):
            k = w.item()
            print(k)
        loss = step(x, w)
        """,
    "raised": """
        def step(x, w):
            k = w.item()
            loss = x.sum()
            raise Found(k)
        """,
}
PROGRAM = """
import asyncio, math
import torch
from torch import nn
"""


def _answer(code: str, is_so: Callable[[SourceLocation, str], bool] = is_unused_by) -> bool:
    file = "/programs of names/it's.py"
    lines = (PROGRAM + textwrap.dedent(code)).splitlines(keepends=True)
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
    number = next(n for n, line in enumerate(lines, 1) if "k = " in line)
    try:
        return is_so(SourceLocation(file, number, text=lines[number - 1].strip()), "loss")
    finally:
        del linecache.cache[file]


@pytest.mark.parametrize("name", UNUSED)
def test_a_number_that_is_only_shown_is_known_to_be_unused(name: str) -> None:
    assert _answer(UNUSED[name])


@pytest.mark.parametrize("name", USED)
def test_a_number_that_may_come_back_is_never_called_unused(name: str) -> None:
    assert not _answer(USED[name])


def test_code_that_is_not_known_proves_nothing() -> None:
    assert not is_unused_by(SourceLocation("nowhere.py", 3, text="k = w.item()"), "loss")


# Of these programs it is known that the result is computed from k.
PROVED = {
    "the other branch assigns it too": """
        if n:
            k = w.item()
        elif m:
            k = 1
        else:
            k = w.sum()
        loss = (x * k).sum()
        """,
    "the other branch of one turn": """
        for i in range(3):
            if i:
                k = w.item()
            else:
                k = w.sum()
            loss = (x * k).sum()
        """,
    "directly": USED["directly"],
    "through names": """
        k = w.item()
        a = k + 1
        h = x * a
        loss = h.sum()
        """,
    "added in place": USED["added in place"],
    "by a function of torch": """
        k = float(w.max())
        h = torch.full((4,), float(k)) * x
        loss = h.softmax(0).sum()
        """,
    "through another number": """
        k = w.max().item()
        h = x * k
        s = h.detach().numpy()[2]
        loss = (x + s).sum()
        """,
    "from a comprehension": """
        k = torch.tensor([float(each) for each in w])
        loss = (x * k).sum()
        """,
    "in the block that reads it": """
        for x, w in batches:
            k = w.item()
            if k > 3:
                continue
            loss = (x * k).sum()
            loss.backward()
        """,
    "written into a tensor": """
        k = w.item()
        x.mul_(k)
        loss = x.sum()
        """,
    "as an item": """
        k = w.item()
        x[:2] = k
        loss = x.sum()
        """,
}
# Of these it is not.
NOT_PROVED = {
    "the other branch may be the last one": """
        for i in range(3):
            if i < n:
                k = w.item()
            else:
                k = w.sum()
        loss = (x * k).sum()
        """,
    **UNUSED,
    "overwritten": """
        k = w.item()
        k = 3
        loss = (x * k).sum()
        """,
    "overwritten in a block": """
        k = w.item()
        if flag:
            k = 3
        loss = (x * k).sum()
        """,
    "only in a branch": """
        k = w.item()
        loss = x.sum()
        if flag:
            loss = (x * k).sum()
        """,
    "as a size": """
        k = int(w.item())
        loss = (x * torch.zeros(k)).sum()
        """,
    "as a shape": """
        k = torch.tensor([float(each) for each in w])
        loss = x.reshape(k.shape).sum() + k.numel()
        """,
    "by a function of the user": """
        k = w.item()
        loss = scaled(x, k)
        """,
    "by a lambda that may not run": """
        k = w.item()
        scaled = lambda t: t * k
        loss = x.sum()
        """,
    "in one side of a choice": """
        k = w.item()
        loss = (x * k if flag else x).sum()
        """,
    "deleted and bound again by a loop": """
        k = w.item()
        for k in range(3):
            x = x * k
        loss = x.sum()
        """,
    "by a name that a function changes": """
        def reset():
            global k
            k = 1
        k = w.item()
        reset()
        loss = (x * k).sum()
        """,
}


@pytest.mark.parametrize("name", PROVED)
def test_a_number_that_the_result_is_computed_from_is_known(name: str) -> None:
    assert _answer(PROVED[name], is_used_by)


@pytest.mark.parametrize("name", NOT_PROVED)
def test_a_number_whose_use_is_not_certain_is_not_known_to_be_used(name: str) -> None:
    assert not _answer(NOT_PROVED[name], is_used_by)
