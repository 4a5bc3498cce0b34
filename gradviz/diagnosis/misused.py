"""Errors of what stands around backward: the messages, and those of optimizers and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.no_tensor import explain_no_grad_yet, explain_no_tensor
from gradviz.diagnosis.refused import plainly
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.wrong_gradient import (
    explain_assigned,
    explain_given,
    explain_hook_result,
    explain_module_hook,
    explain_number_given,
)

__all__ = ["KINDS"]


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


KINDS: Sequence[tuple[str, Callable[..., Explanation | None]]] = (
    (
        r"Mismatch in (?P<what>shape|dtype): grad_output\[\d+\] has a \w+ of (?P<got>.+?) and "
        r"output\[\d+\] has a \w+ of (?P<wanted>.+?)\.$",
        explain_given,
    ),
    (
        r"^invalid gradient at index \d+ - expected device (?P<wanted>\S+) but got (?P<got>\S+)",
        explain_given,
    ),
    (r"attempting to assign a gradient (?:of|with)", explain_assigned),
    (
        r"assigned grad expected to be a Tensor or None but got grad of type (?P<kind>\w+)",
        plainly(
            Verdict.WRONG_GRADIENT,
            "something that is no tensor was assigned{at} to .grad",
            "to clear it: w.grad = None; or a tensor like it: w.grad = torch.zeros_like(w)",
        ),
    ),
    (r"hook '(?P<name>.*)' has changed the (?P<told>size|type) of value", explain_hook_result),
    (r"expected Variable, but hook returned '(?P<kind>\w+)'", explain_hook_result),
    (
        r"Backward hook returned an invalid number of grad_input, got (?P<got>\d+), but expected "
        r"(?P<wanted>\d+)",
        explain_module_hook,
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
        explain_no_tensor,
    ),
    (
        r"'NoneType' object has no attribute|unsupported operand type.*'NoneType'|but got NoneType",
        explain_no_grad_yet,
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
    (r"'(?P<kind>int|float)' object is not iterable", explain_number_given),
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
