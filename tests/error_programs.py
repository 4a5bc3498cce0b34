"""Programs that raise, each with its right verdict, line and fix, written before they were run.

The line to be named ends in ``# here``. A fix that names code is applied: lines that end in ``#-``
are taken out and lines that begin with ``#+`` are put in, and then the program is right: it does
not raise, and what ``then`` says holds. The fix does not have to give code that ends in
``# in words``: it says what to do.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

__all__ = ["PROGRAMS", "ErrorProgram", "program"]


@dataclass(frozen=True)
class ErrorProgram:
    """A program, and what is right about it.

    Args:
        name: for the test report.
        verdict: the value of the right one; "" for a healthy program, which raises nothing.
        says: words that the reason has.
        avoids: words that neither the reason nor the fix may have.
        then: an expression that holds once the fix was applied, or of a healthy program.
        text: the code.
    """

    name: str
    verdict: str
    says: tuple[str, ...]
    avoids: tuple[str, ...]
    then: str
    text: str

    @property
    def line(self) -> int:
        """The number of the line to be named; 0 for none."""
        lines = self.text.splitlines()
        return next((n for n, line in enumerate(lines, 1) if line.endswith("# here")), 0)

    @property
    def fix(self) -> list[str]:
        """The code that the fix puts in, as far as the explanation has to give it."""
        lines = map(str.strip, self.text.splitlines())
        added = [line.removeprefix("#+").strip() for line in lines if line.startswith("#+")]
        # Of a line that moves to another place, the place is the fix.
        return [code for code in added if not self._moves(code) and not code.endswith("# in words")]

    def _moves(self, code: str) -> bool:
        kept = [line.partition("  #")[0].strip() for line in self.text.splitlines()]
        return code in kept or any(code.replace(".clone()", "") == line for line in kept)

    @property
    def fixed(self) -> str:
        """The program with its fix."""
        lines = [
            line.replace("#+ ", "", 1) if line.strip().startswith("#+") else line
            for line in self.text.splitlines()
            if not line.rstrip().endswith("#-") and not line.rstrip().endswith("#-  # here")
        ]
        return "\n".join(lines) + "\n"


PROGRAMS: list[ErrorProgram] = []


def program(
    name: str,
    text: str,
    verdict: str = "",
    says: tuple[str, ...] = (),
    avoids: tuple[str, ...] = (),
    then: str = "True",
) -> None:
    head = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"
    head += "torch.manual_seed(0)\n"
    body = head + textwrap.dedent(text).strip("\n") + "\n"
    PROGRAMS.append(ErrorProgram(name, verdict, says, avoids, then, body))


AGAIN = "backward a second time"

# A state that is carried from step to step (issue 12, A1 and A2).

program(
    "mean kept as an attribute, zero_grad between",
    """
    class Bank(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.mean = nn.Linear(3, 2), torch.zeros(2)
        def forward(self, x):
            feature = self.enc(x)
            #+ self.mean = self.mean.detach()
            self.mean = 0.9 * self.mean + 0.1 * feature.mean(0)  # here
            return ((feature - self.mean) ** 2).mean()
    model = Bank()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(torch.randn(4, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """,
    AGAIN,
    ("self.mean", "carried over"),
    ("feature = ", "feature.detach", "hidden", "into the loop"),
    "model.enc.weight.grad.abs().sum() > 0",
)
program(
    "state kept under another name, with a pass whose graph is dropped",
    """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.state = nn.Linear(3, 2), nn.Linear(2, 2), torch.zeros(2)
        def forward(self, x):
            feature = self.body(x)
            state = 0.7 * self.state + 0.3 * feature.mean(0)  # here
            self.state = state
            #+ self.state = state.detach()
            return self.head(feature).pow(2).sum() + state.pow(2).sum(), feature
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        loss, feature = model(torch.randn(4, 3))
        pseudo = model.head(feature).argmax(1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """,
    AGAIN,
    ("self.state", "kept as self.state"),
    ("feature = ", "feature.detach"),
    "model.body.weight.grad.abs().sum() > 0",
)
program(
    "state in a dict",
    """
    enc, state = nn.Linear(3, 2), {"h": torch.zeros(4, 2)}
    for _ in range(3):
        #+ state['h'] = state['h'].detach()
        state["h"] = torch.tanh(enc(torch.randn(4, 3)) + state["h"])  # here
        loss = state["h"].pow(2).mean()
        loss.backward()
    """,
    AGAIN,
    ("state['h']",),
    ("hidden",),
    "enc.weight.grad.abs().sum() > 0",
)
program(
    "state of an lstm as one tuple",
    """
    lstm, state = nn.LSTM(3, 4), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    for _ in range(3):
        #+ state = tuple(each.detach() for each in state)
        out, state = lstm(torch.randn(5, 2, 3), state)  # here
        out.pow(2).mean().backward()
    """,
    AGAIN,
    ("state", "lstm"),
    ("result of add", "hidden ="),
    "lstm.weight_hh_l0.grad.abs().sum() > 0",
)
program(
    "states of a cell as a pair",
    """
    cell = nn.LSTMCell(3, 4)
    h, c = torch.zeros(2, 4), torch.zeros(2, 4)
    for _ in range(3):
        #+ h, c = h.detach(), c.detach()
        h, c = cell(torch.randn(2, 3), (h, c))  # here
        h.pow(2).mean().backward()
    """,
    AGAIN,
    ("carried over",),
    ("hidden",),
    "cell.weight_hh.grad.abs().sum() > 0",
)
program(
    "hidden state of a gru inside a model",
    """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.rnn, self.out = nn.Linear(3, 4), nn.GRU(4, 5), nn.Linear(5, 1)
        def forward(self, x, h):
            e = torch.tanh(self.emb(x))
            #+ h = h.detach()
            o, h = self.rnn(e, h)  # here
            return self.out(o), h
    model, hidden = Net(), torch.zeros(1, 2, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        out, hidden = model(torch.randn(6, 2, 3), hidden)
        loss = out.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """,
    AGAIN,
    ("hidden state of gru",),
    ("result of add", "result of stack"),
    "model.rnn.weight_hh_l0.grad.abs().sum() > 0",
)
program(
    "list of features that grows",
    """
    enc, bank = nn.Linear(3, 2), []
    for _ in range(3):
        feature = enc(torch.randn(4, 3)).tanh()
        bank.append(feature)
        loss = torch.stack(bank).pow(2).mean()  # here
        loss.backward()
        #+ bank = [each.detach() for each in bank]
    """,
    AGAIN,
    ("bank",),
    ("hidden", "feature = feature.detach()"),
    "enc.weight.grad.abs().sum() > 0",
)
program(
    "indexed state",
    """
    w, states = torch.ones(3, requires_grad=True), [torch.zeros(3), torch.ones(3)]
    for _ in range(3):
        #+ states[0] = states[0].detach()
        states[0] = torch.tanh(w * states[0] + 1)  # here
        states[0].sum().backward()
    """,
    AGAIN,
    ("states[0]",),
    ("hidden",),
    "w.grad.abs().sum() > 0",
)

# Work that is trained and was done once, before the loop.

program(
    "regulariser computed once",
    """
    enc = nn.Linear(3, 2)
    penalty = enc.weight.pow(2).sum()  #-  # here
    for _ in range(3):
        #+ penalty = enc.weight.pow(2).sum()
        loss = enc(torch.randn(4, 3)).pow(2).mean() + 0.1 * penalty
        loss.backward()
    """,
    AGAIN,
    ("penalty", "once"),
    ("penalty.detach()", "hidden"),
    "enc.weight.grad.abs().sum() > 0",
)
program(
    "scaled parameter",
    """
    raw = nn.Parameter(torch.ones(3))
    scaled = raw * 0.01  #-  # here
    optimizer = torch.optim.SGD([raw], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        #+ scaled = raw * 0.01
        loss = ((scaled * torch.randn(3)) ** 2).sum()
        loss.backward()
        optimizer.step()
    """,
    AGAIN,
    ("scaled", "once"),
    ("scaled.detach()", "hidden"),
    "raw.grad.abs().sum() > 0",
)
program(
    "exponential outside of the loop",
    """
    w, b = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([w, b], lr=0.1)
    h = (w * 2).exp()  #-  # here
    for scale in (1.0, 5.0):
        optimizer.zero_grad()
        #+ h = (w * 2).exp()
        loss = ((h + b) * scale).pow(2).sum()
        loss.backward()
        optimizer.step()
    """,
    AGAIN,
    ("h,", "once"),
    ("h.detach()",),
    "w.grad.abs().sum() > 0",
)
program(
    "two losses over one trunk",
    """
    body, one, two = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    feature = torch.tanh(body(torch.randn(5, 3)))  # here
    loss_a = one(feature).pow(2).mean()
    loss_a.backward()  #-
    loss_b = two(feature).pow(2).mean()
    loss_b.backward()  #-
    #+ (loss_a + loss_b).backward()
    """,
    AGAIN,
    ("feature",),
    ("hidden",),
    "body.weight.grad.abs().sum() > 0",
)
program(
    "one loss in every step",
    """
    w = torch.ones(3, requires_grad=True)
    loss = (w.exp() ** 2).sum()
    for _ in range(3):
        loss.backward()  # here
    """,
    AGAIN,
    (),
    ("carried over", "detach"),
)
program(
    "healthy: the state is detached",
    """
    cell, h = nn.GRUCell(3, 4), torch.zeros(2, 4)
    for _ in range(3):
        h = cell(torch.randn(2, 3), h.detach())
        h.pow(2).mean().backward()
    """,
    then="cell.weight_hh.grad.abs().sum() > 0",
)
program(
    "healthy: the graph is retained",
    """
    w = torch.ones(3, requires_grad=True)
    loss = w.exp().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    """,
    then="w.grad.allclose(2 * w.exp())",
)

# ``.grad`` is None (issue 12, A7; issue 14).

NONE = "not a tensor"
program(
    "gradient of a non-leaf tensor",
    """
    x = torch.ones(2, requires_grad=True)
    y = x * 2  # here
    #+ y.retain_grad()
    y.sum().backward()
    step = y.grad.sign()
    """,
    NONE,
    ("y.grad is None", "non-leaf"),
    ("if y.grad is not None", "was cleared"),
    "step.tolist() == [1, 1]",
)
program(
    "update by assignment",
    """
    w, lr = torch.ones(3, requires_grad=True), 0.1
    for _ in range(3):
        loss = (w**2).sum()
        loss.backward()
        w = w - lr * w.grad  #-  # here
        #+ with torch.no_grad(): w -= lr * w.grad
    """,
    NONE,
    ("w.grad is None", "sub"),
    ("is not None",),
    "w.is_leaf and w.requires_grad and w[0] < 0.9",
)
program(
    "second step of an attack",
    """
    x = torch.ones(2, requires_grad=True)
    for _ in range(2):
        loss = (x**2).sum()
        loss.backward()
        x = x + 0.1 * x.grad.sign()  #-  # here
        #+ with torch.no_grad(): x += 0.1 * x.grad.sign()
    """,
    NONE,
    ("x.grad is None", "add"),
    ("is not None",),
    "x.grad is not None",
)
program(
    "gradient after it was cleared",
    """
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.zero_grad()  # here
    total = model.weight.grad.norm()
    """,
    NONE,
    ("model.weight.grad is None", "zero_grad"),
    ("no backward pass",),
)
program(
    "frozen parameter in a loop",
    """
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.requires_grad_(False)  # here
    model(torch.ones(1, 2)).sum().backward()
    for p in model.parameters():
        p.grad.mul_(0.5)
    """,
    NONE,
    ("0.weight", "requires_grad"),
    ("was cleared",),
)
program(
    "unused layer in a comprehension",
    """
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "spare": nn.Linear(2, 1)})
    loss = model["used"](torch.ones(1, 2)).sum()
    loss.backward()
    norms = [p.grad.norm() for p in model.parameters()]  # here
    """,
    NONE,
    ("spare.weight", "not used", "if p.grad is not None"),
    ("was cleared", "before the first pass"),
)
program(
    "data without requires_grad",
    """
    x, w = torch.ones(2), torch.ones(2, requires_grad=True)
    (x * w).sum().backward()
    saliency = x.grad.abs()  # here
    """,
    NONE,
    ("x.grad is None", "require"),
    ("was cleared",),
)
program(
    "another None",
    """
    table = {}
    value = table.get("loss") * 2  # here
    """,
    "another error",
    (),
    (".grad",),
)
program(
    "healthy: the gradient is there",
    """
    w = torch.ones(2, requires_grad=True)
    (w**2).sum().backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    """,
    then="w.grad.tolist() == [2, 2]",
)
