"""Errors of what stands around backward: given gradients, hooks, optimizers, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradviz.explanation.answers import Explanation
from gradviz.explanation.lines import mention
from gradviz.explanation.refused import plainly
from gradviz.explanation.trouble import Trouble
from gradviz.explanation.verdict import Verdict
from gradviz.story import Event, EventKind

__all__ = ["KINDS"]

Explain = Callable[[Trouble, "re.Match[str]"], Explanation]

_LIKE_IT = "give one with the shape of the result: {name}.backward(torch.ones_like({name}))"


def _given(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """The gradient that backward or ``torch.autograd.grad`` was given does not fit the result."""
    graph, roots = trouble.moment.graph, trouble.moment.roots
    key = roots[0] if len(roots) == 1 else ""
    name = (graph.nodes[key].get("name") if key else "") or "the result"
    groups = found.groupdict()
    got, wanted = _plain(groups.get("got")), _plain(groups.get("wanted"))
    reason = (
        f"backward{trouble.at} was given a gradient of {groups.get('what', 'device')} {got}, "
        f"and {name} has {wanted}"
    )
    fix = _LIKE_IT.format(name="y" if name == "the result" else name)
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix, [key], key)


def _number_given(trouble: Trouble, found: re.Match[str]) -> Explanation | None:
    """``backward(1.0)``; None when it was another number."""
    if ".backward(" not in mention(trouble.line):
        return None
    reason = f"backward{trouble.at} was given a {found['kind']} as its gradient, not a tensor"
    fix = "loss.backward(torch.ones_like(loss)); a single number needs none: loss.backward()"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)


def _assigned(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """``x.grad = ...`` of another size, type or device."""
    text = trouble.message.partition(".")[0]
    values = re.findall(r"'([^']*)'", text)
    what = "shape" if "of size" in text else "dtype" if "dtype" in text else "device"
    got, wanted = (*values, "another", "another")[:2]
    reason = (
        f"a gradient of {what} {_plain(got)} was assigned{trouble.at} "
        f"to the .grad of a tensor of {what} {_plain(wanted)}"
    )
    fix = "assign one that is like it: w.grad = torch.zeros_like(w), or None to clear it"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)


def _by_hook(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """A hook returned a gradient that does not fit."""
    name, told = found.groupdict().get("name") or "", found.groupdict().get("told") or ""
    called = f" {name}" if name.isidentifier() and name != "hook" else ""
    hooks = [
        event
        for event in trouble.moment.happened(EventKind.HOOK)
        if event.detail == "registered" and event.source and "accumulate" not in event.word
    ]
    line = hooks[0].source if len({event.source for event in hooks}) == 1 else ""
    where = f" at {mention(line)}" if line else ""
    on = f" on {hooks[0].name}" if line and hooks[0].name else ""
    if "invalid number of grad_input" in trouble.message:
        reason = f"a full backward hook of a module returned {found['got']} gradients "
        reason += f"for {found['wanted']}{trouble.at}"
        fix = (
            "return a tuple with one gradient for each input of the module, or None to change none"
        )
        return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)
    change = f"of another {'shape' if told == 'size' else 'type or device'}"
    if "hook returned" in trouble.message:
        change = f"that is no tensor but a {found['kind']}"
    if was := re.search(r"was (?P<old>\S+) got (?P<new>\S+)\)", trouble.message):
        change += f" ({was['old']} → {was['new']})"
    reason = f"the hook{called}{on}{where} returned a gradient {change}, in backward{trouble.at}"
    fix = "let the hook return None, or a gradient like that which it was given: grad * 2"
    nodes = [event.node for event in hooks[:1] if line and event.node]
    evidence = [*nodes, line]
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix, evidence, nodes[0] if nodes else "")


def _no_tensor(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """``backward`` of a number, an array or None."""
    kind = found["kind"]
    kind = kind.rpartition(".")[2]
    code = mention(trouble.line).partition("(")[2]
    named = re.match(r"([\w.]+)\.(?:backward|zero_|requires_grad_|detach)\b", code)
    what = f"{named[1]}, " if named else ""
    reason = f"{found['attribute']}(){trouble.at} was called on {what}"
    evidence: list[str] = []
    if kind == "NoneType":
        reason += "None: what should have made it has returned nothing"
        return trouble.answer(
            Verdict.NOT_A_TENSOR, reason, "let the function, or forward, end in return loss"
        )
    if kind in ("tuple", "list", "dict"):
        reason += f"a {kind} of results, not one tensor"
        fix = "take the loss out of it: loss, logits = model(x), or output.loss"
        return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix)
    article = "an array" if kind == "ndarray" else f"a {kind}"
    reason += f"{article}, which carries no graph"
    if exits := _exits(trouble):
        reason += f"; numbers were taken out at {mention(exits[-1].source)}"
        evidence = [exits[-1].source]
    fix = "keep it a tensor up to backward: leave out item(), float() and numpy(); for a printout "
    fix += "take loss.item() beside it"
    return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix, evidence)


def _exits(trouble: Trouble) -> Sequence[Event]:
    words = ("item", "tolist", "float", "int", "numpy", "complex", "index")
    return [
        event
        for event in trouble.moment.happened(EventKind.CUT)
        if event.word in words and event.source
    ]


def _no_grad_yet(trouble: Trouble, found: re.Match[str]) -> Explanation | None:
    """Something was done with a ``.grad`` that is None; None when it was another None."""
    code = mention(trouble.line).partition(" (")[2]
    used = re.search(r"([\w.\[\]]+)\.grad\b", code)
    if used is None:
        return None
    name = used[1]
    reason = f"{name}.grad is None{trouble.at}: no backward pass has added to it, or it was cleared"
    fix = f"gradviz.explain({name}, loss) tells which; in a loop: if {name}.grad is not None"
    return trouble.answer(Verdict.NOT_A_TENSOR, reason, fix)


def _no_parameters(trouble: Trouble, found: re.Match[str]) -> Explanation:
    reason = (
        f"the optimizer{trouble.at} was given no parameters: model.parameters() has none, or its "
        "generator was used up before"
    )
    fix = (
        "make the layers in __init__, and keep several in nn.ModuleList or nn.ModuleDict, not in a "
        "list; filter by requires_grad after unfreezing; to use the parameters twice: "
        "list(model.parameters())"
    )
    return trouble.answer(Verdict.OPTIMIZER, reason, fix)


def _not_parameters(trouble: Trouble, found: re.Match[str]) -> Explanation:
    reason = f"the optimizer{trouble.at} was given {found['kind']} where parameters belong"
    fix = "give it a list of leaves: torch.optim.SGD([w], lr=0.1), or model.parameters()"
    return trouble.answer(Verdict.OPTIMIZER, reason, fix)


def _sparse(trouble: Trouble, found: re.Match[str]) -> Explanation:
    reason = f"{found['name']}{trouble.at} cannot use {found['kind']} gradients"
    fix = "torch.optim.SparseAdam or SGD for the embeddings with sparse=True, and another for the "
    fix += "rest; or leave out sparse=True"
    return trouble.answer(Verdict.OPTIMIZER, reason, fix)


def _no_derivative(trouble: Trouble, found: re.Match[str]) -> Explanation:
    name = found["name"]
    graph, word = trouble.moment.graph, name.partition(":")[0]
    keys = [
        key for key, data in graph.nodes(data=True) if data.get("op") in (word, "not_implemented")
    ]
    key = keys[0] if len(keys) == 1 else ""
    line = graph.nodes[key].get("source", "") if key else ""
    which = f" with respect to its argument {name.partition(': ')[2]}" if ":" in name else ""
    used = f"; it was used at {mention(line)}" if line else ""
    reason = f"backward{trouble.at} came to {word}, which torch has no derivative for{which}{used}"
    fix = "detach that input if it needs no gradient, or write a torch.autograd.Function with one"
    return trouble.answer(Verdict.NO_DERIVATIVE, reason, fix, [key, line], key)


def _recomputed(trouble: Trouble, found: re.Match[str]) -> Explanation:
    saved = re.search(r"during forward: (\d+)\D+recomputation: (\d+)", trouble.message)
    shapes = re.findall(r"'shape': torch.Size\((\[[\d, ]*\])\)", trouble.message)
    more = f": {saved[1]} tensors were saved at first, and {saved[2]} now" if saved else ""
    if len(shapes) > 1 and shapes[0] != shapes[1]:
        more = f": a tensor was of shape {shapes[0]} at first, and of {shapes[1]} now"
    reason = f"a checkpoint was computed again in backward{trouble.at}, and went another way{more}"
    fix = (
        "let the function depend on its arguments alone: no global, counter or random choice "
        "outside of torch's generators that changes between forward and backward"
    )
    return trouble.answer(Verdict.CHECKPOINT, reason, fix)


def _plain(text: str | None) -> str:
    """``[3]`` of ``torch.Size([3])``, ``float32`` of ``torch.float32``."""
    return re.sub(r"torch\.Size\((.*)\)", r"\1", text or "another").removeprefix("torch.").lower()


KINDS: Sequence[tuple[str, Callable[..., Explanation | None]]] = (
    (
        r"Mismatch in (?P<what>shape|dtype): grad_output\[\d+\] has a \w+ of (?P<got>.+?) and "
        r"output\[\d+\] has a \w+ of (?P<wanted>.+?)\.$",
        _given,
    ),
    (
        r"^invalid gradient at index \d+ - expected device (?P<wanted>\S+) but got (?P<got>\S+)",
        _given,
    ),
    (r"attempting to assign a gradient (?:of|with)", _assigned),
    (
        r"assigned grad expected to be a Tensor or None but got grad of type (?P<kind>\w+)",
        plainly(
            Verdict.WRONG_GRADIENT,
            "something that is no tensor was assigned{at} to .grad",
            "to clear it: w.grad = None; or a tensor like it: w.grad = torch.zeros_like(w)",
        ),
    ),
    (r"hook '(?P<name>.*)' has changed the (?P<told>size|type) of value", _by_hook),
    (r"expected Variable, but hook returned '(?P<kind>\w+)'", _by_hook),
    (
        r"Backward hook returned an invalid number of grad_input, got (?P<got>\d+), but expected "
        r"(?P<wanted>\d+)",
        _by_hook,
    ),
    (
        r"post accumulate grad hooks cannot be registered on non-leaf tensors",
        plainly(
            Verdict.NOT_A_LEAF,
            "register_post_accumulate_grad_hook was called{at} on the result of an operation, and "
            "gradients are accumulated in leaves alone",
            "register it on a leaf; for the gradient of a result: h.register_hook(hook)",
        ),
    ),
    (
        r"Cowardly refusing to serialize non-leaf tensor which requires_grad",
        plainly(
            Verdict.NOT_A_LEAF,
            "the result of an operation was sent to another process{at}, where its graph cannot "
            "follow",
            "send its values alone: x.detach()",
        ),
    ),
    (
        r"cannot assign '[\w.]*Tensor'(?: object)? (?:as|to) parameter '(?P<name>\w+)'",
        plainly(
            Verdict.NOT_A_LEAF,
            "a parameter was to be replaced{at} by a tensor that is no nn.Parameter",
            "change its values: with torch.no_grad(): m.weight.copy_(x); or m.weight = "
            "nn.Parameter(x); to compute it from others: torch.func.functional_call",
        ),
    ),
    (
        r"'(?P<kind>[\w.]+)' object has no attribute "
        r"'(?P<attribute>backward|requires_grad_|retain_grad)'",
        _no_tensor,
    ),
    (
        r"'NoneType' object has no attribute|unsupported operand type.*'NoneType'|but got NoneType",
        _no_grad_yet,
    ),
    (r"optimizer got an empty parameter list", _no_parameters),
    (
        r"optimizer (?:should be an iterable of Tensors or dicts, but got|"
        r"can only optimize Tensors, but one of the params is) (?P<kind>[\w.]+)",
        _not_parameters,
    ),
    (r"(?P<name>\w+) does not support (?P<kind>sparse|dense) gradients", _sparse),
    (
        r"some parameters appear in more than one parameter group",
        plainly(
            Verdict.OPTIMIZER,
            "the same parameter was given to the optimizer{at} in two groups",
            "leave it out of one of them; modules that share a weight list it once each",
        ),
    ),
    (r"the derivative for '(?P<name>[^']+)' is not implemented", _no_derivative),
    (
        r"functions with out=\.\.\. arguments don't support automatic differentiation",
        plainly(
            Verdict.NO_DERIVATIVE,
            "an operation with out={at} cannot be recorded, and one of its inputs requires grad",
            "leave out= out: y = torch.add(a, b); or compute it under torch.no_grad()",
        ),
    ),
    (
        r"trying to differentiate twice a function that was marked with @once_differentiable",
        plainly(
            Verdict.NO_DERIVATIVE,
            "the backward of a Function was to be differentiated again{at}, and it is marked "
            "@once_differentiable",
            "write its backward with operations of torch, and leave out @once_differentiable",
        ),
    ),
    (
        r"A different number of tensors was saved during the original forward and recomputation|"
        r"trying to save more tensors during recomputation|"
        r"Recomputed values for the following tensors have different metadata",
        _recomputed,
    ),
    (
        r"use_reentrant=True, torch.utils.checkpoint is incompatible with",
        plainly(
            Verdict.CHECKPOINT,
            "a reentrant checkpoint was to be differentiated{at} by torch.autograd.grad or with "
            "inputs=, and takes part in a plain backward() alone",
            "checkpoint(..., use_reentrant=False)",
        ),
    ),
    (
        r"a Tensor with \d+ elements cannot be converted to Scalar|"
        r"only one element tensors can be converted to Python scalars",
        plainly(
            Verdict.NOT_SCALAR,
            "one number was asked{at} of a tensor that has several",
            "reduce it first: x.mean().item(); or take them all: x.tolist()",
        ),
    ),
    (
        r"grad_and_value.*Expected f\(\*args\) to return a scalar|"
        r"returned by the function given to hessian should contain a single element",
        plainly(
            Verdict.NOT_SCALAR,
            "a function was to be differentiated{at} that returns more than one number",
            "reduce what it returns: .sum(); or use torch.func.jacrev for a whole Jacobian",
        ),
    ),
    (
        r"more than one element of the written-to tensor refers to a single memory location",
        plainly(
            Verdict.VIEW_CHANGED,
            "a tensor was written to{at} whose elements share memory, as expand() makes it",
            "work on a copy: x = x.clone(), or x.repeat(...) in place of x.expand(...)",
        ),
    ),
    (
        r"step\(\) missing 1 required positional argument: 'closure'",
        plainly(
            Verdict.OPTIMIZER,
            "this optimizer computes the loss several times for each step, and was given no way "
            "to do so",
            "give step() a function that calls zero_grad() and backward() and returns the loss",
        ),
    ),
    (
        r"No inf checks were recorded for this optimizer",
        plainly(
            Verdict.OPTIMIZER,
            "GradScaler.step was called{at}, and no parameter of the optimizer has a gradient",
            "call scaler.scale(loss).backward() before it; else gradviz.explain(model, loss) tells "
            "why there is none",
        ),
    ),
    (r"'(?P<kind>int|float)' object is not iterable", _number_given),
    (
        r"expected Variable or None \(got (?P<kind>\w+)\)",
        plainly(
            Verdict.WRONG_BACKWARD,
            "the backward of a Function returned something that is neither a tensor nor None",
            "return a tensor for each input that requires grad, and None for the others",
        ),
    ),
    (
        r"save_for_backward can only save variables, but argument \d+ is of type (?P<kind>\w+)",
        plainly(
            Verdict.WRONG_BACKWARD,
            "save_for_backward was given something that is no tensor",
            "keep it on the context instead: ctx.scale = scale",
        ),
    ),
    (
        r"Legacy autograd function with non-static forward method",
        plainly(
            Verdict.WRONG_BACKWARD,
            "the forward of a Function is no static method",
            "write @staticmethod def forward(ctx, x) and @staticmethod def backward(ctx, grad), "
            "and call it by apply: Scale.apply(x)",
        ),
    ),
)
"""Patterns of messages, and what explains them; None from one that finds it does not apply."""
