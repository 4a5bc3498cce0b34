"""Errors that are explained from their text and line alone, as one table of plain data.

The last rules answer for every error that no other rule knows.

A row applies if the text is of one of its kinds. Its sentences use the fields of the message
(`gradviz.torch_messages.TorchMessage`), ``{at}`` for the line, and ``{a_type}`` for ``"a float"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.lines import at_line, locations_of, mention
from gradviz.diagnosis.name_flow import calls_in
from gradviz.diagnosis.no_graph import inputs_of
from gradviz.diagnosis.rule import Evidence, Rule, node_of, source_of
from gradviz.diagnosis.subjects import ErrorContext, is_raised_by_autograd, original_of
from gradviz.facts import Action, FrameKind, SourceLocation
from gradviz.graph import NodeData, first_not_freed
from gradviz.graph.operations import forward_word
from gradviz.graph.text import joined
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind as Kind

_LONGEST = 200
UNKNOWN_OF_AUTOGRAD = "autograd raised an error that no rule knows"

Row = tuple[str, tuple[Kind, ...], Verdict, str, str]
"""A name, the texts, a verdict, the sentence and the fix."""

_TABLE: Sequence[Row] = (
    # Operations that only a leaf supports, or that a leaf does not support.
    (
        "requires_grad of a non-leaf tensor was switched off",
        (Kind.NON_LEAF_FROZEN,),
        Verdict.NOT_A_LEAF,
        "requires_grad was switched off{at} on a non-leaf tensor, whose inputs require grad",
        "{instead}",
    ),
    (
        "a post-accumulate hook on a non-leaf tensor",
        (Kind.NON_LEAF_HOOKED,),
        Verdict.NOT_A_LEAF,
        "register_post_accumulate_grad_hook was called{at} on a non-leaf tensor, and gradients are "
        "accumulated in leaves only",
        "register it on a leaf; for the gradient of a non-leaf tensor: h.register_hook(hook)",
    ),
    (
        "a non-leaf tensor was sent to another process",
        (Kind.NON_LEAF_SENT,),
        Verdict.NOT_A_LEAF,
        "a non-leaf tensor that requires grad was sent to another process{at}, and its graph "
        "cannot be sent",
        "send its values: x.detach()",
    ),
    (
        "a parameter was replaced by a plain tensor",
        (Kind.PARAMETER_REPLACED,),
        Verdict.NOT_A_LEAF,
        "the parameter {name!r} was to be replaced{at} by a tensor that is not an nn.Parameter",
        "change its values: with torch.no_grad(): m.{name}.copy_(x); or m.{name} = "
        "nn.Parameter(x); to compute it from other tensors: torch.func.functional_call",
    ),
    (
        "integers cannot require grad",
        (Kind.NOT_FLOATING,),
        Verdict.NOT_FLOATING,
        "requires_grad was set{at} on a tensor of integers or booleans, which have no gradient",
        "use a floating-point dtype: torch.tensor([1, 2], dtype=torch.float32)",
    ),
    (
        "numpy() of a tensor that requires grad",
        (Kind.NUMPY,),
        Verdict.NUMPY,
        "numpy() was called{at} on a tensor that requires grad, and numpy cannot record gradients",
        "for the values: x.detach().numpy(); to keep the gradient, compute with torch",
    ),
    (
        "integers were assigned to .data",
        (Kind.DATA_NOT_FLOATING,),
        Verdict.NOT_FLOATING,
        "a tensor of integers or booleans was assigned{at} to the .data of a tensor that requires "
        "grad",
        "convert it: w.data = x.float()",
    ),
    (
        "a Python function was applied to a tensor that requires grad",
        (Kind.PYTHON_FUNCTION,),
        Verdict.NO_DERIVATIVE,
        "{operation}_() was called{at} on a tensor that requires grad, and autograd cannot record "
        "a Python function of numbers",
        "for the values: x.detach().clone().{operation}_(...); to keep the gradient, compute with "
        "torch",
    ),
    # Gradients that do not match.
    (
        "torch.autograd.grad of an input that does not require grad",
        (Kind.INPUT_WITHOUT_GRAPH,),
        Verdict.NOT_USED,
        "torch.autograd.grad was asked{at} for the gradient of {of}, which does not require grad",
        "call .requires_grad_() on it before the output is computed",
    ),
    (
        "a gradient of another shape was assigned",
        (Kind.ASSIGNED_ANOTHER_SHAPE,),
        Verdict.WRONG_GRADIENT,
        "a gradient of shape {got} was assigned{at} to the .grad of a tensor of shape {expected}",
        "assign one of the same shape: w.grad = torch.zeros_like(w), or None to clear it",
    ),
    (
        "a gradient of another dtype was assigned",
        (Kind.ASSIGNED_ANOTHER_DTYPE,),
        Verdict.WRONG_GRADIENT,
        "a gradient of dtype {got} was assigned{at} to the .grad of a tensor of dtype "
        "{expected_lower}",
        "assign one of the same dtype: w.grad = grad.to(w.dtype), or None to clear it",
    ),
    (
        "a gradient on another device was assigned",
        (Kind.ASSIGNED_ANOTHER_DEVICE,),
        Verdict.WRONG_GRADIENT,
        "a gradient on device {got} was assigned{at} to the .grad of a tensor on device {expected}",
        "assign one on the same device: w.grad = grad.to(w.device), or None to clear it",
    ),
    (
        "something else than a tensor was assigned to .grad",
        (Kind.ASSIGNED_NO_TENSOR,),
        Verdict.WRONG_GRADIENT,
        "{a_type} was assigned{at} to .grad, which takes a tensor or None",
        "to clear it: w.grad = None; or assign a tensor: w.grad = torch.zeros_like(w)",
    ),
    (
        "a module hook returned another number of gradients",
        (Kind.MODULE_HOOK_COUNT,),
        Verdict.WRONG_GRADIENT,
        "a full backward hook of a module returned {found} gradients for {wanted} inputs{at}",
        "return a tuple with one gradient for each input of the module, or None to change nothing",
    ),
    # A custom Function.
    (
        "a Function without a backward",
        (Kind.NO_BACKWARD,),
        Verdict.WRONG_BACKWARD,
        "backward{at} reached a Function{changed} that has no backward",
        "write one: @staticmethod def backward(ctx, *grads)",
    ),
    (
        "a Function's backward returned something else than a tensor",
        (Kind.RETURNED_NO_TENSOR,),
        Verdict.WRONG_BACKWARD,
        "the backward of a Function returned {a_type}{at}, which is neither a tensor nor None",
        "return a tensor for each input that requires grad, and None for the others",
    ),
    (
        "save_for_backward of something else than a tensor",
        (Kind.SAVED_NO_TENSOR,),
        Verdict.WRONG_BACKWARD,
        "save_for_backward was given {a_type}{at}, and takes tensors only",
        "keep it on the context instead: ctx.scale = scale",
    ),
    (
        "a Function does not return what it marks as dirty",
        (Kind.DIRTY_NOT_RETURNED,),
        Verdict.WRONG_BACKWARD,
        "the forward of a Function called{at} passes a tensor to ctx.mark_dirty and does not "
        "return it",
        "return that tensor itself; or change a copy, x = x.clone(), without ctx.mark_dirty",
    ),
    (
        "gradcheck found another derivative",
        (Kind.GRADCHECK,),
        Verdict.WRONG_BACKWARD,
        "gradcheck{at} found that the gradient of input {index} is not the derivative of output "
        "{found}, which it measured by small changes of the input",
        "if it is a custom Function, correct the formula in its backward; gradcheck needs inputs "
        "of dtype=torch.float64, away from points without a derivative",
    ),
    (
        "a Function's forward is not a static method",
        (Kind.FORWARD_NOT_STATIC,),
        Verdict.WRONG_BACKWARD,
        "the forward of a Function is not a static method{at}",
        "write @staticmethod def forward(ctx, x) and @staticmethod def backward(ctx, grad), and "
        "call it by apply: Scale.apply(x)",
    ),
    (
        "a Function marked @once_differentiable was differentiated twice",
        (Kind.DIFFERENTIATED_TWICE,),
        Verdict.NO_DERIVATIVE,
        "backward{at} reached the backward of a Function{changed} that is marked "
        "@once_differentiable, so it has no derivative",
        "write its backward with torch operations, and leave out @once_differentiable",
    ),
    (
        "an activation in place with a negative slope",
        (Kind.NEGATIVE_SLOPE,),
        Verdict.NO_DERIVATIVE,
        "backward{at} reached an activation with a negative slope{changed} that has overwritten "
        "its input, and its result does not give the sign of the input",
        "leave out inplace=True",
    ),
    (
        "linalg.qr in a mode without a derivative",
        (Kind.WHOLE_QR, Kind.QR_WITHOUT_Q),
        Verdict.NO_DERIVATIVE,
        "backward{at} reached torch.linalg.qr with mode={argument!r}{changed}, which has no "
        "derivative here",
        'torch.linalg.qr(x, mode="reduced")',
    ),
    (
        "the loss depends on the phase of complex vectors",
        (Kind.PHASE,),
        Verdict.NO_DERIVATIVE,
        "backward{at} reached {operation}{changed} whose complex {argument} are unique up to a "
        "phase only, and the loss depends on that phase",
        "compute the loss from what the phase does not change, such as v.abs()",
    ),
    (
        "a worker of a DataLoader batched tensors that require grad",
        (Kind.BATCHED_IN_WORKER,),
        Verdict.NO_DERIVATIVE,
        "a worker process of the DataLoader put tensors that require grad into one batch{at}, in "
        "shared memory, which autograd cannot record",
        "let the dataset return x.detach(); compute what is trained from the batch, in the loop",
    ),
    (
        "torch.jit.trace of a function that uses a tensor that requires grad",
        (Kind.TRACED_CONSTANT,),
        Verdict.NO_DERIVATIVE,
        "torch.jit.trace would store a constant{at}, in place of a tensor that requires grad and "
        "is no argument of the traced function and no parameter of the traced module",
        "pass it to the function as an argument, or trace a module that has it as its parameter",
    ),
    (
        "out= cannot be recorded",
        (Kind.OUT_ARGUMENT,),
        Verdict.NO_DERIVATIVE,
        "{operation} was called with out={at}, which autograd cannot record, and one of its inputs "
        "requires grad",
        "leave out= out: y = torch.{operation}(...); or compute it under torch.no_grad()",
    ),
    # Checkpoints.
    (
        "a checkpoint computed tensors of other shapes in backward",
        (Kind.CHECKPOINT_METADATA,),
        Verdict.CHECKPOINT,
        "a checkpointed function{changed} was run again in backward{at} and did something else: "
        "a tensor of shape {expected} is of shape {got} now",
        "let the function depend on its arguments only: no global variable, counter or random "
        "choice that changes between forward and backward",
    ),
    (
        "a checkpoint saved another number of tensors in backward",
        (Kind.CHECKPOINT_FEWER, Kind.CHECKPOINT_MORE),
        Verdict.CHECKPOINT,
        "a checkpointed function{changed} was run again in backward{at} and did something else: "
        "it saved another number of tensors",
        "let the function depend on its arguments only: no global variable, counter or random "
        "choice that changes between forward and backward",
    ),
    (
        "a reentrant checkpoint takes part in plain backward() only",
        (Kind.CHECKPOINT_REENTRANT,),
        Verdict.CHECKPOINT,
        "torch.autograd.grad or backward(inputs=) reached a reentrant checkpoint{at}, which works "
        "with a plain backward() only",
        "checkpoint(..., use_reentrant=False)",
    ),
    # A single number is needed.
    (
        "one number was asked of several elements",
        (Kind.NOT_ONE_ELEMENT, Kind.NOT_ONE_NUMBER),
        Verdict.NOT_SCALAR,
        "a tensor with several elements was to become one number{at}",
        "reduce it first: x.mean().item(); or take all elements: x.tolist()",
    ),
    (
        "a function to be differentiated returns more than one number",
        (Kind.FUNC_NOT_A_SCALAR, Kind.HESSIAN_NOT_A_SCALAR),
        Verdict.NOT_SCALAR,
        "a function was to be differentiated{at} that returns more than one number",
        "reduce what it returns: .sum(); or use torch.func.jacrev for the whole Jacobian",
    ),
    # Inside the transforms of torch.func.
    (
        "requires_grad_ inside a transformed function",
        (Kind.TRANSFORMED_REQUIRES_GRAD,),
        Verdict.NO_GRAPH,
        "requires_grad_() was called{at} inside a function that torch.func transforms",
        "leave it out: torch.func.grad differentiates with respect to the arguments",
    ),
    (
        "backward inside a transformed function",
        (Kind.TRANSFORMED_BACKWARD,),
        Verdict.NO_GRAPH,
        "backward() was called{at} inside a function that torch.func transforms",
        "use torch.func.grad in place of backward(), or call backward() on the result outside",
    ),
    (
        "a number was taken inside torch.vmap",
        (Kind.VMAP_NUMBER,),
        Verdict.NOT_SCALAR,
        "one number or condition was asked{at} of a tensor inside torch.vmap, where it stands for "
        "one value for each element of the batch",
        "compute with the tensor itself, and choose with torch.where",
    ),
    # Optimizers.
    (
        "an optimizer without parameters",
        (Kind.NO_PARAMETERS,),
        Verdict.OPTIMIZER,
        "the optimizer{at} was given no parameters: the list is empty, or its generator was used "
        "up before",
        "make the layers in __init__, and keep several in nn.ModuleList or nn.ModuleDict, not in a "
        "list; to use the parameters twice: list(model.parameters())",
    ),
    (
        "an optimizer of something else than parameters",
        (Kind.NOT_PARAMETERS, Kind.NOT_A_PARAMETER),
        Verdict.OPTIMIZER,
        "the optimizer{at} was given {python_type} where parameters are needed",
        "give it a list of leaves: torch.optim.SGD([w], lr=0.1), or model.parameters()",
    ),
    (
        "an optimizer that cannot use sparse gradients, or dense ones",
        (Kind.GRADIENT_LAYOUT,),
        Verdict.OPTIMIZER,
        "{name}{at} cannot use {got} gradients",
        "torch.optim.SparseAdam or SGD for the embeddings with sparse=True, and another optimizer "
        "for the rest; or leave out sparse=True",
    ),
    (
        "weight decay of a sparse gradient",
        (Kind.SPARSE_ADDED,),
        Verdict.OPTIMIZER,
        "a dense tensor was added{at} to a sparse one, as the weight decay of an optimizer adds a "
        "parameter to the gradient of an embedding with sparse=True",
        "leave out weight_decay for that embedding; or leave out sparse=True",
    ),
    (
        "the state of an optimizer of other parameters",
        (Kind.STATE_OF_ANOTHER,),
        Verdict.OPTIMIZER,
        "load_state_dict{at} was given the state of an optimizer with other parameters or groups",
        "give the optimizer the parameters that the saved one had, in the same groups, frozen ones "
        "too",
    ),
    (
        "a parameter in two groups of an optimizer",
        (Kind.PARAMETER_TWICE,),
        Verdict.OPTIMIZER,
        "the same parameter was given to the optimizer{at} in two groups",
        "leave it out of one of them; modules that share a weight list it once each",
    ),
    (
        "an optimizer that needs a closure",
        (Kind.NO_CLOSURE,),
        Verdict.OPTIMIZER,
        "{name}.step() was called{at} without a closure: it computes the loss several times in "
        "each step",
        "give step() a function that calls zero_grad() and backward() and returns the loss",
    ),
    (
        "GradScaler.step twice in a step",
        (Kind.STEPPED_TWICE,),
        Verdict.OPTIMIZER,
        "GradScaler.step or unscale_ was called{at} after a step, and no scaler.update() between",
        "call scaler.update() after scaler.step(optimizer)",
    ),
    (
        "a list of gradients is empty",
        (Kind.EMPTY_LIST,),
        Verdict.OPTIMIZER,
        "a function that works on a list of tensors was called{at} with an empty list: for "
        "clip_grad_value_, no parameter has a gradient",
        "call clip_grad_value_ between backward() and step()",
    ),
    (
        "GradScaler.unscale_ twice in a step",
        (Kind.UNSCALED_TWICE,),
        Verdict.OPTIMIZER,
        "GradScaler.unscale_ was called{at} a second time since the last scaler.update(){before}",
        "call it once per step, and scaler.update() after scaler.step(optimizer)",
    ),
    (
        "GradScaler with parameters of half precision",
        (Kind.UNSCALED_HALF,),
        Verdict.OPTIMIZER,
        "GradScaler was to unscale{at} gradients of float16: the parameters themselves are of half "
        "precision",
        "keep the parameters in float32 (leave out model.half()) and run the forward pass under "
        "torch.autocast",
    ),
    # Several processes.
    (
        "a parameter marked ready twice by DistributedDataParallel",
        (Kind.DDP_MARKED_TWICE,),
        Verdict.DISTRIBUTED,
        "a parameter{named} received a second gradient in one backward pass{at}, and "
        "DistributedDataParallel takes one: a reentrant checkpoint runs its own backward pass, or "
        "the module ran twice",
        "checkpoint(..., use_reentrant=False); or call model._set_static_graph() if every step "
        "uses the same parameters",
    ),
    (
        "a plain tensor and a DTensor in one operation",
        (Kind.MIXED_WITH_DTENSOR,),
        Verdict.DISTRIBUTED,
        "{operation} was called{at} with a plain tensor and a DTensor",
        "convert a tensor that is equal on all ranks: DTensor.from_local(x, mesh, [Replicate()]); "
        "or use the whole w.full_tensor(); fully_shard makes them whole while their module runs",
    ),
    (
        "another process of the group ended",
        (Kind.PEER_LOST,),
        Verdict.DISTRIBUTED,
        "another process of the group ended while this one waited for it{at}: its own error is the "
        "cause, and this one follows from it",
        "look for the first error among the outputs of all ranks; torchrun prints it under 'Root "
        "Cause'",
    ),
    (
        "the processes of the group called different functions",
        (Kind.PEER_DIFFERS,),
        Verdict.DISTRIBUTED,
        "the ranks called different functions of torch.distributed, or one with different "
        "tensors{at}: the message lists both calls",
        "let every rank make the same collective calls, with tensors of the same shape, in the "
        "same order",
    ),
    (
        "another process of the group did not answer in time",
        (Kind.PEER_LATE,),
        Verdict.DISTRIBUTED,
        "another process of the group did not take part in time ({found} ms){at}: it ended, it "
        "hangs, or it does not reach the same collective call",
        "let every rank make the same collective calls in the same order; see where the others are "
        "with py-spy dump, or raise timeout= in init_process_group",
    ),
)


def rules_of(table: Sequence[Row]) -> tuple[Rule[Any, Any], ...]:
    """A rule for each row of a table of plain data."""
    return tuple(Rule(row[0], row[2], _of_kind(row[1]), *row[3:]) for row in table)


def _of_kind(kinds: tuple[Kind, ...]) -> Callable[[Context, ErrorContext], Evidence | None]:
    def match(context: Context, error: ErrorContext) -> Evidence | None:
        if (read := error.read).kind is None or read.kind not in kinds:
            return None
        kind = _AFTER.get(read.kind)
        change = _latest(context, *kind) if kind is not None else None
        lines: tuple[SourceLocation, ...] = (change.location,) if change is not None else ()
        what = "change in place" if kind is not None and not kind[1] else "call"
        where = f" (the latest {what} is at {mention(lines[0])})" if lines else ""
        if read.kind in (Kind.DIFFERENTIATED_TWICE, Kind.NO_BACKWARD):
            where, lines = _function_in(context, read.kind is Kind.DIFFERENTIATED_TWICE)
        elif read.kind in _REACHED:
            op = read.operation.removeprefix("linalg_") or "qr"
            key = node_of(context, op=f"linalg_{op}")
            if read.kind is Kind.NEGATIVE_SLOPE:
                key = first_not_freed(context.graph, context.reachable)
            lines, where = locations_of([source_of(context, key)]), at_line(source_of(context, key))
        elif read.kind.name.startswith("CHECKPOINT"):
            lines = tuple(calls_in(context, "checkpoint"))
            where = f" (checkpoint() is called at {joined([*map(str, lines)])})" if lines else ""
        return error.evidence(locations=lines, words=_words(context, error), changed=where)

    return match


def _function_in(context: Context, of_grad: bool) -> tuple[str, tuple[SourceLocation, ...]]:
    """The only Function in the last pass, or in that of ``torch.autograd.grad``; "" for several."""
    graphs = [f.graph for f in context.frames if f.kind is FrameKind.AFTER_AUTOGRAD_GRAD]
    graph = graphs[-1] if graphs and of_grad else context.graph
    inside = replace(context, graph=graph, roots=(*graph.roots,))
    nodes = [graph.nodes[key] for key in inside.functions]
    lines = locations_of(dict.fromkeys(str(data.get("source", "")) for data in nodes))
    if len({data.get("op") for data in nodes}) != 1 or not lines:
        return "", ()
    return f" ({nodes[0].get('op')}, called at {joined([mention(each) for each in lines])})", lines


_REACHED = (Kind.WHOLE_QR, Kind.QR_WITHOUT_Q, Kind.PHASE, Kind.NEGATIVE_SLOPE)
_AFTER = {
    Kind.BASE_OF_SEVERAL_VIEWS: (EventKind.IN_PLACE, ""),
    Kind.BASE_OF_FUNCTION_VIEW: (EventKind.IN_PLACE, ""),
    Kind.LEAF_MOVED: (EventKind.IN_PLACE, ""),
    Kind.SAVED_DETACHED: (EventKind.CUT, "detach_"),
}
"""Of an error that something before it caused: the kind of event, and the word of the call."""


def _latest(context: Context, kind: EventKind, word: str) -> Event | None:
    found = (e for e in reversed(context.happened(kind)) if not word or e.word == word)
    return next((each for each in found if each.location), None)


def _words(context: Context, error: ErrorContext) -> dict[str, object]:
    kind = (read := error.read).python_type
    words: dict[str, object] = {
        "a_type": f"{'an' if kind[:1] in 'aeioAEIO' else 'a'} {kind}",
        "expected_lower": read.expected.lower(),
        "named": f" ({read.name})" if read.name else "",
        "before": "",
        "of": error.constant or "an input",
        "instead": original_of(error) or "detach it instead: h = h.detach()",
    }
    unscaled = [e for e in context.happened(EventKind.GRAD) if e.action is Action.UNSCALED]
    if read.kind is Kind.UNSCALED_TWICE and unscaled:
        words["before"] = f"; the first call is at {mention(unscaled[-1].location)}"
    if read.kind in (Kind.ONE_OF_SEVERAL_VIEWS, Kind.BASE_OF_SEVERAL_VIEWS):
        words["operation_word"] = forward_word(read.node)
    return words


def _said(error: ErrorContext) -> str:
    said = error.text.partition("\n")[0]
    short = f"{said[:_LONGEST].rpartition(' ')[0]} ..."
    return short if len(said) > _LONGEST else said.rstrip(".") or "it has no message"


def _raised_in_backward(context: Context, error: ErrorContext) -> Evidence | None:
    """An error in a backward pass for which there is no other rule."""
    if not error.is_backward:
        return None
    call = getattr(_latest(context, EventKind.BACKWARD, ""), "location", SourceLocation())
    key = first_not_freed(context.graph, context.reachable)
    data: NodeData = context.graph.nodes[key] if key else {}
    line, inputs, reached = data.get("source", ""), inputs_of(context, key), ""
    if op := data.get("op"):
        reached = f"; it had reached {op}{f' with {inputs}' if inputs else ''}{at_line(line)}"
    words = {
        "where": at_line(call),
        "name": error.name,
        "inner": "" if error.location == call else error.at,
        "root": f", which started from {context.root_names}," if context.roots and call else "",
    }
    lines = [*locations_of([line]), call]
    return error.evidence([key], lines, key, words=words, said=_said(error), reached=reached)


def _of_autograd(context: Context, error: ErrorContext) -> Evidence | None:
    """Known facts about an error of autograd outside of a backward pass, without another rule."""
    if error.error is None or not is_raised_by_autograd(error.error, error.text):
        return None
    made = [event for event in context.happened(EventKind.OPERATION) if event.nodes]
    if not made:
        return error.evidence(said=_said(error), before="no operation was recorded before it")
    name = f" ({made[-1].name})" if made[-1].name else ""
    before = f"the last operation recorded before it is {made[-1].word}{name}"
    before += at_line(made[-1].location)
    return error.evidence(made[-1].nodes[:1], said=_said(error), before=before)


def _any_error(context: Context, error: ErrorContext) -> Evidence | None:
    """The text and the line of an error for which there is no other rule."""
    return error.evidence(said=_said(error), fix=OUTSIDE.get(error.read.kind, ""))


OUTSIDE: Mapping[Kind | None, str] = {
    Kind.ONE_VALUE: "give it more values than one: a larger batch or image, DataLoader(..., "
    "drop_last=True) for a small last batch; or model.eval(), where nothing is trained",
    Kind.SCALER_WITHOUT_STEP: "call scaler.step(optimizer), not optimizer.step(), before it",
    Kind.VMAP_RANDOM: 'vmap(f, randomness="different"), or "same" for the same values in each',
    Kind.FUNC_SEVERAL: "return the loss alone; or, for (loss, others), grad(f, has_aux=True)",
    Kind.CLASSES_ARE_FLOATS: "class indices are integers: target.long()",
    Kind.INTEGERS_CHANGED: "convert the integers, such as a target: y.float()",
    Kind.OTHER_DTYPE: "convert one to the dtype of the other: x.to(weight.dtype)",
    Kind.BFLOAT16_NUMPY: "numpy has no bfloat16: x.float().numpy()",
    Kind.NOT_ONE_BOOLEAN: "create a loss before it is called: torch.nn.MSELoss()(prediction, "
    "target); or make one value of a condition: x.all(), x.any()",
    Kind.NO_PROBABILITIES: "give it probabilities: x.sigmoid(); or use BCEWithLogitsLoss",
    Kind.NO_SUPER: "call super().__init__() first in __init__",
}
"""Of errors outside of autograd, which keep the text of torch."""

_LAST: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a backward pass raised another error",
        Verdict.BACKWARD_RAISED,
        _raised_in_backward,
        "backward{where}{root} raised {name}{inner}: {said}{reached}",
        docs="It reports what is known: the line, the root of backward, and the operation.",
    ),
    Rule(
        UNKNOWN_OF_AUTOGRAD,
        Verdict.OTHER_ERROR,
        _of_autograd,
        "{said}{at}; gradviz has no rule for this error of autograd, and {before}",
    ),
    Rule("another error", Verdict.OTHER_ERROR, _any_error, "{said}{at}"),
)

RULES: tuple[Rule[Any, Any], ...] = (*rules_of(_TABLE), *_LAST)
