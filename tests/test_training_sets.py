"""The parameters of the model and of the optimizer, and the leaves of the loss: differences."""

import contextlib
import copy
import runpy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import gradviz
from gradviz import Verdict

Program = Callable[[], nn.Module]


class Net(nn.Module):
    """A model that keeps its hidden layers in a container of one's choice."""

    def __init__(self, keep: Callable[[list[nn.Module]], object]) -> None:
        super().__init__()
        self.hidden = keep([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.out = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers = self.hidden.values() if hasattr(self.hidden, "values") else self.hidden
        for layer in layers:  # type: ignore[union-attr]
            x = layer(x).tanh()
        return self.out(x)


def two_layers() -> nn.ModuleDict:
    return nn.ModuleDict({"body": nn.Linear(3, 3), "head": nn.Linear(3, 1)})


def loss_of(model: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, 12).view(4, 3)
    if isinstance(model, nn.ModuleDict):
        return model["head"](model["body"](x).tanh()).pow(2).mean()
    return model(x).pow(2).mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, times: int = 2) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()


def verdicts(train_it: Program) -> dict[str, gradviz.Explanation]:
    torch.manual_seed(0)
    with gradviz.record() as run:
        model = train_it()
    return {each.name: each for each in gradviz.explain(run, names=model)}


def forgotten_body() -> nn.Module:
    model = two_layers()
    train(model, torch.optim.SGD(model["head"].parameters(), lr=0.1))
    return model


def given_later() -> nn.Module:
    model = two_layers()
    optimizer = torch.optim.SGD(model["head"].parameters(), lr=0.1)
    for parameter in model["body"].parameters():
        optimizer.add_param_group({"params": [parameter]})
    train(model, optimizer)
    return model


def generator_used_up() -> nn.Module:
    model = two_layers()
    body = model["body"].parameters()
    assert sum(p.numel() for p in body) == 12
    groups = [{"params": body}, {"params": model["head"].parameters()}]
    train(model, torch.optim.SGD(groups, lr=0.1))
    return model


def optimizer_of_a_copy() -> nn.Module:
    model = two_layers()
    train(model, torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1))
    return model


def plain(keep: Callable[[list[nn.Module]], object]) -> Program:
    def program() -> nn.Module:
        model = Net(keep)
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))
        return model

    return program


def as_dict(layers: list[nn.Module]) -> dict[str, nn.Module]:
    return {"erste Schicht": layers[0], "層": layers[1]}


def as_ordered(layers: list[nn.Module]) -> OrderedDict[str, nn.Module]:
    return OrderedDict(as_dict(layers))


@pytest.mark.parametrize(
    ("program", "name", "said"),
    [
        (forgotten_body, "body.weight", "no optimizer holds it: SGD"),
        (generator_used_up, "body.bias", "no optimizer holds it: SGD"),
        (optimizer_of_a_copy, "head.weight", "holds 4 parameters that "),
        (plain(list), "hidden[0].weight", "Net keeps it in hidden, a plain list"),
        (plain(tuple), "hidden[1].bias", "Net keeps it in hidden, a plain tuple"),
        (plain(as_dict), "hidden['層'].weight", "Net keeps it in hidden, a plain dict"),
        (plain(as_ordered), "hidden['層'].weight", "Net keeps it in hidden, a plain dict"),
    ],
)
def test_in_no_optimizer(program: Program, name: str, said: str) -> None:
    answer = verdicts(program)[name]
    is_plain = "plain" in said
    assert answer.verdict is (Verdict.NOT_REGISTERED if is_plain else Verdict.NOT_TRAINED)
    assert said in answer.reason


@pytest.mark.parametrize(
    "program",
    [
        given_later,  # what the fix says
        plain(nn.ModuleList),
        plain(lambda layers: nn.ModuleDict({"a": layers[0], "b": layers[1]})),
    ],
)
def test_fixed_program_is_fine(program: Program) -> None:
    assert {each.verdict for each in verdicts(program).values()} == {Verdict.FINE}


def test_layers_in_a_plain_list_that_the_optimizer_was_given() -> None:
    model = Net(list)
    everything = [*model.parameters(), *(p for layer in model.hidden for p in layer.parameters())]
    with gradviz.record() as run:
        train(model, torch.optim.SGD(everything, lr=0.1))
    assert {each.verdict for each in gradviz.explain(run, names=model)} == {Verdict.FINE}


def test_an_optimizer_that_has_not_stepped_yet_counts() -> None:
    model = two_layers()
    first = torch.optim.SGD(model["body"].parameters(), lr=0.1)
    second = torch.optim.SGD(model["head"].parameters(), lr=0.1)
    with gradviz.record() as run:
        train(model, first, times=1)
    assert second.param_groups
    assert {each.verdict for each in gradviz.explain(run, names=model)} == {Verdict.FINE}


def test_an_image_that_is_optimized_is_no_reason_for_an_alarm() -> None:
    model, image = two_layers(), torch.ones(4, 3, requires_grad=True)
    optimizer = torch.optim.SGD([image], lr=0.1)
    with gradviz.record() as run:
        optimizer.zero_grad()
        model["head"](model["body"](image).tanh()).pow(2).mean().backward()
        optimizer.step()
    assert {each.verdict for each in gradviz.explain(run, names=model)} == {Verdict.FINE}


def test_a_parameter_that_is_updated_by_hand_is_no_reason_for_an_alarm() -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model["head"].parameters(), lr=0.1)
    with gradviz.record() as run:
        loss_of(model).backward()
        optimizer.step()
        with torch.no_grad():
            for parameter in model["body"].parameters():
                parameter -= 0.1 * parameter.grad
    found = {each.verdict for each in gradviz.explain(run, names=model)}
    assert Verdict.NOT_TRAINED not in found


def test_plain_list_without_a_recording() -> None:
    model = Net(list)
    answers = gradviz.explain(loss_of(model), names=model)
    assert answers.of("hidden[0].weight").verdict is Verdict.NOT_REGISTERED
    assert answers.of("out.weight").verdict is Verdict.NOT_RUN


@pytest.mark.parametrize("order", ["zero_grad, step", "step, zero_grad"])
def test_zero_grad_between_backward_and_step(order: str) -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as run:
        for _ in range(2):
            loss_of(model).backward()
            for deed in order.split(", "):
                getattr(optimizer, deed)()
    answers = gradviz.explain(run, names=model)
    is_too_early = order == "zero_grad, step"
    verdict = Verdict.CLEARED if is_too_early else Verdict.FINE  # of all, one that was used is fine
    assert {each.verdict for each in answers} == {verdict}
    assert gradviz.explain(model["body"].weight, run).verdict is Verdict.CLEARED
    assert ("had no gradient to use" in answers.of("body.weight").reason) is is_too_early


def test_a_last_step_that_finds_nothing_is_no_reason_to_say_fine() -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as run:
        loss_of(model).backward()
        optimizer.step()
        loss_of(model).backward()
        optimizer.zero_grad()
        optimizer.step()
    for answers in (gradviz.explain(run, names=model), gradviz.explain(run)):
        assert {each.verdict for each in answers} == {Verdict.CLEARED}
        assert "had no gradient to use" in answers[0].reason


def freeze_module(body: nn.Module) -> None:
    body.requires_grad = False


def freeze_misspelt(body: nn.Module) -> None:
    for parameter in body.parameters():
        parameter.require_grad = False


def freeze_misspelt_module(body: nn.Module) -> None:
    body.requires_grads = False


@pytest.mark.parametrize(
    ("freeze", "attribute"),
    [
        (freeze_module, "body.requires_grad = False has no effect"),
        (freeze_misspelt, "its attribute require_grad = False has no effect"),
        (freeze_misspelt_module, "body.requires_grads = False has no effect"),
    ],
)
def test_freezing_without_effect(freeze: Callable[[nn.Module], None], attribute: str) -> None:
    model = two_layers()
    freeze(model["body"])
    with gradviz.record() as run:
        loss_of(model).backward()
    answers = gradviz.explain(run, names=model)
    assert attribute in answers.of("body.weight").reason
    assert answers.of("body.weight").verdict is Verdict.WITHOUT_EFFECT
    assert answers.of("head.weight").verdict is Verdict.FINE
    fix = answers.of("body.bias").fix.removeprefix("to freeze it: ")
    exec(fix, {"body": model["body"]})  # the fix is code, and it freezes
    assert model["body"].bias.requires_grad is False


def test_momentum_moves_a_frozen_parameter() -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def run_it(is_mended: bool) -> gradviz.Explanations:
        with gradviz.record() as run:
            model["body"].requires_grad_(True)
            for epoch in range(3):
                if epoch == 1:
                    model["body"].requires_grad_(False)
                    for parameter in model["body"].parameters() if is_mended else ():
                        parameter.grad = None
                optimizer.zero_grad(set_to_none=False)
                loss_of(model).backward()
                optimizer.step()
        return gradviz.explain(run, names=model)

    wrong = run_it(False).of("body.weight")
    assert wrong.verdict is Verdict.MOVED and "momentum" in wrong.reason
    assert run_it(True).of("body.weight").verdict is not Verdict.MOVED


def test_healthy_modules_are_not_called_frozen() -> None:
    model = two_layers()
    model.freeze = False
    model["body"].requires_grad_(False)
    with gradviz.record() as run:
        loss_of(model).backward()
    answers = {each.name: each.verdict for each in gradviz.explain(run, names=model)}
    assert answers["head.weight"] is Verdict.FINE
    assert Verdict.WITHOUT_EFFECT not in answers.values()


def test_a_parameter_that_was_frozen_from_the_start_is_not_asked_about() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.positions = nn.Linear(2, 1), nn.Embedding(3, 2).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.a(x + self.positions(torch.arange(3)))
            return made

    net = Positions()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for modules in ((net,), ()):
        with gradviz.record(*modules) as run:
            for _ in range(2):
                optimizer.zero_grad()
                net(torch.ones(3, 2)).square().sum().backward()
                optimizer.step()
        told = {each.name.rpartition("net.")[2]: each.verdict for each in gradviz.explain(run)}
        assert told == {"a.weight": gradviz.Verdict.FINE, "a.bias": gradviz.Verdict.FINE}


def drops_its_body(fails: bool) -> gradviz.Explanation:
    """The body is trained, and in the last step its pass does not use it, or raises an error."""
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 12).view(4, 3)
    with gradviz.record() as run:
        for is_last in (False, True):
            hidden = x if is_last and not fails else model["body"](x).tanh()
            loss = model["head"](hidden).pow(2).mean()
            if is_last and fails:
                with torch.no_grad():
                    hidden.mul_(2)
            optimizer.zero_grad()
            with contextlib.suppress(RuntimeError):
                loss.backward()
            optimizer.step()
    told = gradviz.explain(model["body"].weight, run)
    assert isinstance(told, gradviz.Explanation)
    return told


@pytest.mark.parametrize(
    ("fails", "says", "fix"),
    [
        (False, "added nothing to it", "meant to leave it out"),
        (True, "raised an error", "explain the error"),
    ],
)
def test_the_pass_after_a_clear_is_why_there_is_no_gradient(
    fails: bool, says: str, fix: str
) -> None:
    told = drops_its_body(fails)
    assert told.verdict is Verdict.CLEARED
    assert says in str(told)
    assert fix in told.fix
    assert "start of the next step" not in told.fix


FROZEN_BEFORE = """
import gradviz
import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4), requires_grad=False)

    def forward(self, x):
        return x * self.weight


net = nn.Sequential(nn.Linear(4, 4), Scale(), nn.Linear(4, 1))
FREEZE
with gradviz.record(net) as run:
    net(torch.randn(2, 4)).pow(2).mean().backward()
told = gradviz.explain(net[PART].weight, run)
"""


@pytest.mark.parametrize(
    ("freeze", "part", "line"),
    [
        ("", 1, ":10"),
        ("net[0].weight.requires_grad = False", 0, ""),
        ("net[0].requires_grad_(False)", 0, ""),
    ],
)
def test_a_parameter_frozen_before_the_recording_gets_no_line_of_another(
    freeze: str, part: int, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "frozen_before.py"
    text = FROZEN_BEFORE.replace("FREEZE", freeze).replace("PART", str(part))
    path.write_text(text, encoding="utf-8")
    told = runpy.run_path(str(path))["told"]
    assert told.verdict is Verdict.FROZEN
    assert ("created at" in told.reason) is bool(line)
    assert line in told.reason


def test_a_tensor_that_was_frozen_before_the_recording_and_is_changed() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step() -> None:
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    step()
    net[1].requires_grad_(False)
    with gradviz.record(net) as run:
        step()
    told = gradviz.explain(run)
    moved = [each for each in told if each.verdict is Verdict.MOVED]
    assert [each.name for each in moved] == ["net.1.weight", "net.1.bias"]
    assert moved[0].reason.startswith("it was frozen before the recording, and")
    net[1].weight.grad = net[1].bias.grad = None  # the fix
    with gradviz.record(net) as run:
        step()
    assert Verdict.MOVED not in {each.verdict for each in gradviz.explain(run)}


def test_an_optimizer_that_is_given_all_gradients_may_change_frozen_tensors() -> None:
    w, net = torch.zeros(2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD([w], 0.1)
    with gradviz.record() as run:
        w.grad = torch.ones(2)
        optimizer.step()
        net(w).sum().backward()
    assert Verdict.MOVED not in {each.verdict for each in gradviz.explain(run)}


@pytest.mark.parametrize("has_step", [True, False])
def test_an_optimizer_of_an_earlier_program_is_not_listed(has_step: bool) -> None:
    old, net = nn.Linear(2, 2), nn.Linear(2, 2)
    _other = torch.optim.SGD(old.parameters(), 0.1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        net(torch.ones(1, 2)).sum().backward()
        if has_step:
            optimizer.step()
    assert str(gradviz.explain(run)) == "2 parameters  fine"


def test_an_error_in_a_module_leaves_no_loss_that_could_use_it() -> None:
    class Bad(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("not yet")

    net = nn.Sequential(nn.Linear(2, 2), Bad(2, 2))
    with pytest.raises(ValueError, match="not yet"), gradviz.record(net) as run:
        net(torch.ones(1, 2))
    assert [each.verdict for each in gradviz.explain(run)] == [Verdict.OTHER_ERROR]


def test_a_cut_in_the_last_pass_is_named_where_earlier_ones_had_none() -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record() as run:
        for step in range(3):
            hidden = model["body"](torch.ones(4, 3)).tanh()
            if step == 2:
                hidden = hidden.detach()
            loss = model["head"](hidden).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    told = gradviz.explain(model["body"].weight, run)
    assert isinstance(told, gradviz.Explanation)
    assert told.verdict is Verdict.CLEARED
    assert "its path is cut by detach() at " in told.reason
    assert told.fix.endswith("leave out the detach(); nothing, if that pass may leave it out")


def test_an_optimizer_of_an_earlier_program_is_not_asked_about() -> None:
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizer = torch.optim.Adam(first.parameters())  # a notebook still holds it
    first(torch.ones(5, 4)).sum().backward()
    optimizer.step()
    with gradviz.record() as run:
        loss = second(torch.ones(5, 4)).sum()
        loss.backward()
    assert {each.name for each in gradviz.explain(run)} == {"second.weight", "second.bias"}


def test_an_optimizer_of_unused_parameters_is_asked_about() -> None:
    model = {"first": nn.Linear(4, 2), "second": nn.Linear(4, 2)}
    optimizer = torch.optim.Adam([p for each in model.values() for p in each.parameters()])
    with gradviz.record() as run:
        loss = model["second"](torch.ones(5, 4)).sum()
        loss.backward()
    assert len(gradviz.explain(run).wrong) == 2
    del optimizer
