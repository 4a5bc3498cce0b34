"""Programs that raise, each with the right verdict, line and fix, written down before they were run.

The line to be named ends in ``# here``. A fix that names code is applied: lines that end in ``#-``
are taken out and lines that begin with ``#+`` are put in, and then the program is right: it does
not raise, and what ``then`` says holds.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

__all__ = ["PROGRAMS", "ErrorProgram"]


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
    def added(self) -> list[str]:
        """The code that the fix puts in."""
        lines = map(str.strip, self.text.splitlines())
        return [line.removeprefix("#+").strip() for line in lines if line.startswith("#+")]

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
            #+ self.state = self.state.detach()
            state = 0.7 * self.state + 0.3 * feature.mean(0)  # here
            self.state = state
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
    ("feature.detach()", "hidden"),
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

NONE = "no tensor"
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
    ("spare.weight", "not used"),
    ("was cleared", "is not None"),
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

# No derivative (issue 12, B4).

DERIVATIVE = "no derivative"
program(
    "gradient penalty of distances",
    """
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    y = torch.cdist(x, w).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)  # here
    g.pow(2).sum().backward()
    """,
    DERIVATIVE,
    ("_cdist_backward",),
    ("detach that input",),
)
program(
    "step function",
    """
    x = torch.randn(3, requires_grad=True)
    y = torch.heaviside(x, torch.ones(3))  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("heaviside", "x of shape [3]"),
)
program(
    "incomplete gamma function",
    """
    a = torch.ones(2, requires_grad=True)
    y = torch.igamma(a, torch.ones(2))  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("igamma", "argument input"),
)
program(
    "gradient penalty of a ctc loss",
    """
    x = torch.randn(5, 2, 4, requires_grad=True)
    y = F.ctc_loss(x.log_softmax(2), torch.ones(2, 3).long(), [5, 5], [3, 3])
    (g,) = torch.autograd.grad(y, x, create_graph=True)  # here
    g.pow(2).sum().backward()
    """,
    DERIVATIVE,
    ("_ctc_loss_backward",),
)
program(
    "operation of a library without a derivative",
    """
    @torch.library.custom_op("gradviz_forum::thrice", mutates_args=())
    def thrice(x: torch.Tensor) -> torch.Tensor:
        return x * 3
    x = torch.ones(3, requires_grad=True)
    y = thrice(x)  # here
    y.sum().backward()
    """,
    DERIVATIVE,
    ("thrice",),
)
program(
    "healthy: gradient penalty of a square",
    """
    x = torch.ones(3, requires_grad=True)
    (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    g.pow(2).sum().backward()
    """,
    then="x.grad.tolist() == [36, 36, 36]",
)

# Changes in place by modules and optimizers (issue 12, C6).

CHANGED = "changed in place"
program(
    "lookup that renormalises the table",
    """
    table, proj = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 2)
    index = torch.tensor([1, 2])
    everyone = table.weight @ proj.weight.t()  #-
    #+ everyone = table.weight.clone() @ proj.weight.t()
    some = proj(table(index))  # here
    ((everyone.sum() + some.sum()) ** 2).backward()
    """,
    CHANGED,
    ("max_norm", "table.weight"),
    ("x = x + 1",),
    "table.weight.grad.abs().sum() > 0",
)
program(
    "batch statistics updated in between",
    """
    norm = nn.BatchNorm1d(3)
    x = torch.randn(4, 3, requires_grad=True)
    a = x * norm.running_var  #-
    #+ a = x * norm.running_var.clone()
    b = norm(torch.randn(4, 3))  # here
    (a.sum() + b.sum()).backward()
    """,
    CHANGED,
    ("batch_norm", "running"),
    ("x = x + 1",),
    "x.grad is not None",
)
program(
    "weights loaded before backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    best = {name: each.clone() for name, each in model.state_dict().items()}
    loss = model(torch.randn(4, 3)).pow(2).mean()
    #+ loss.backward()
    model.load_state_dict(best)  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("load_state_dict",),
    ("x = x + 1",),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "step before the second backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    out = model(torch.randn(4, 3))
    one, two = out.mean(), out.pow(2).mean()
    one.backward(retain_graph=True)
    optimizer.step()  #-  # here
    two.backward()
    #+ optimizer.step()
    """,
    CHANGED,
    ("the optimizer's step",),
    ("x = x + 1", "x.clone()"),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "average of weights that the graph uses",
    """
    student, teacher = nn.Linear(3, 3), nn.Linear(3, 3)
    loss = (teacher(torch.tanh(student(torch.randn(4, 3))))).pow(2).mean()
    #+ loss.backward()
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters()):
            slow.lerp_(fast, 0.1)  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("lerp_", "teacher.weight"),
    (),
    "student.weight.grad.abs().sum() > 0",
)
program(
    "weights initialised before backward",
    """
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    loss = model(torch.randn(4, 3)).pow(2).mean()
    #+ loss.backward()
    model[1].reset_parameters()  # here
    loss.backward()  #-
    """,
    CHANGED,
    ("1.weight",),
    (),
    "model[0].weight.grad.abs().sum() > 0",
)
program(
    "rectifier in place after a sigmoid",
    """
    w = torch.ones(3, requires_grad=True)
    h = torch.sigmoid(w)
    y = F.relu(h, inplace=True)  #-  # here
    #+ y = F.relu(h)
    y.sum().backward()
    """,
    CHANGED,
    ("relu_", "sigmoid"),
    (),
    "w.grad.abs().sum() > 0",
)
program(
    "healthy: normalised between two passes",
    """
    table = nn.Embedding(5, 3, max_norm=1.0)
    for _ in range(2):
        table(torch.tensor([1, 2])).pow(2).sum().backward()
    """,
    then="table.weight.grad.abs().sum() > 0",
)

# Inputs of torch.autograd.grad (issue 12, E2).

UNUSED = "input not used"
program(
    "parameters of a layer that was not called",
    """
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "never": nn.Linear(2, 1)})
    other = model["never"](torch.randn(3, 2))
    loss = other.sum()
    grads = torch.autograd.grad(model["used"](torch.ones(3, 2)).sum(), list(model.parameters()))  # here
    """,
    UNUSED,
    ("never.weight", "never.bias"),
    ("other", "loss", " used.weight"),
)
program(
    "one input by keyword",
    """
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    out = (w * 2).sum()
    torch.autograd.grad(outputs=out, inputs=v)  # here
    """,
    UNUSED,
    ("v (inputs[0])", "from out"),
    ("w (",),
)
program(
    "gradient with respect to a detached copy",
    """
    x = torch.ones(2, requires_grad=True)
    y = (x * 2).sum()
    z = x.detach().requires_grad_()
    torch.autograd.grad(y, [x, z])  # here
    """,
    UNUSED,
    ("z (inputs[1])",),
    ("x (",),
)
program(
    "gradient of the loss with respect to a later result",
    """
    x = torch.ones(2, requires_grad=True)
    h = x * 2
    later = h.exp()
    torch.autograd.grad(h.sum(), [h, later])  # here
    """,
    UNUSED,
    ("later (inputs[1])",),
)
program(
    "many inputs",
    """
    leaves = [torch.ones(1, requires_grad=True) for _ in range(8)]
    total = sum(leaves[:2])
    torch.autograd.grad(total, leaves)  # here
    """,
    UNUSED,
    ("inputs[2]", "3 more"),
)
program(
    "healthy: unused inputs are allowed",
    """
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    found = torch.autograd.grad(w.sum(), [w, v], allow_unused=True)
    """,
    then="found[1] is None",
)
