"""Text for people, made from typed facts: events, problems and frame titles.

Nothing reads this text back; code that needs a fact reads the typed record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradviz.facts import (
    Action,
    BackwardDetails,
    Details,
    ErrorDetails,
    EventKind,
    FrameKind,
    GradientDetails,
    HookDetails,
    Problem,
    ProblemKind,
    RankRecord,
    RankState,
    StepDetails,
    VersionDetails,
)
from gradviz.graph import RankSpread, TensorSummary
from gradviz.graph.text import counted, joined, runs_of

_FEW = 4  # Numbers of a gradient, or names of parameters, that are written out.
_LONGEST_MESSAGE = 200
_LONGEST_TITLE = 40  # Characters of a title that lists the changes of gradients.


def event_detail(
    kind: EventKind, action: Action | None, details: Details | None, count: int
) -> str:
    """The details of an event as text; "" when its word is enough."""
    match details:
        case VersionDetails():
            after = details.after
            return f"version {details.before} → {after}" if after != details.before else ""
        case BackwardDetails():
            return _backward(details, action is Action.BACKWARD)
        case GradientDetails():
            text = added_text(details.before, details.after)
            if details.ranks and details.before is not None:  # the average is of the sum
                text = gradient_change_text(details.before, details.after)
            return f"{text}, pass {details.accumulations}" if details.accumulations else text
        case StepDetails():
            return _step(details, action)
        case HookDetails():
            by = f" by {details.function}" if details.function else ""
            return f"gradient {gradient_change_text(details.before, details.after)}{by}"
        case ErrorDetails():
            problem = details.problem
            if problem is not None:
                return f"{problem.op or problem.node} {problem_text(problem)}"
            return details.message.partition("\n")[0][:_LONGEST_MESSAGE]
        case None:
            return _action(kind, action, count)


_PLAIN = {
    Action.GRADIENTS_OFF: "gradients off",
    Action.GRADIENTS_ON: "gradients on",
    Action.INFERENCE_ON: "gradients off",
    Action.INFERENCE_OFF: "gradients on",
    Action.DATA_REPLACED: "replaced, no version counted",
}


def _action(kind: EventKind, action: Action | None, count: int) -> str:
    if action is None:
        return ""
    if kind is EventKind.REQUIRES_GRAD:
        switched = "on" if action is Action.REQUIRES_GRAD_ON else "off"
        return switched if count == 1 else f"{switched}, {count} tensors"
    text = _PLAIN.get(action, action.value)
    return f"{count} gradients {text}" if kind is EventKind.GRAD and count > 1 else text


def _backward(details: BackwardDetails, accumulates: bool) -> str:
    words = [
        "gradient given" if details.gradient_given else "",
        "retain_graph" if details.retain_graph and not details.create_graph else "",
        "create_graph" if details.create_graph else "",
        f"inputs: {len(details.inputs)}" if details.inputs is not None and accumulates else "",
    ]
    return ", ".join(filter(None, words))


def _step(details: StepDetails, action: Action | None) -> str:
    if action is Action.SKIPPED:
        return "skipped by GradScaler: a gradient is infinite or NaN"
    names = [name for name in details.names if name]
    few = 0 < len(names) == details.changed_count <= _FEW
    what = ", ".join(names) if few else f"{details.changed_count} of {details.count} parameters"
    values = details.changed_values
    if values is None or values == details.changed_count:
        return f"changed {what}"
    return f"wrote to {what}, changed the values of {values or 'none'}"


def inside_text(inside: object) -> str:
    """Where in a library something happened, to be read after the line that called it.

    Example:
        >>> from gradviz.facts import SourceLocation
        >>> inside_text(SourceLocation("lib/generate.py", 12))
        'inside lib/generate.py:12'
    """
    return f"inside {inside}"


def problem_text(problem: Problem) -> str:
    """Why backward failed at an operation, as text that follows the operation's word.

    Example:
        >>> print(problem_text(Problem(ProblemKind.CHANGED_IN_PLACE, "n1", "exp", "result",
        ...     is_result=True, wanted=0, found=1, changed_to=1, changed_by="add_")))
        needs its own result as it was at version 0; add_ made it version 1
    """
    where = f" at {problem.location}" if problem.location else ""
    if problem.inside:
        where += f", {inside_text(problem.inside)},"
    if problem.kind is ProblemKind.FREED:
        if problem.location:
            return f"freed by backward{where}"
        return "freed before, by something that was not recorded"
    name = "its own result" if problem.is_result else "one of its inputs"
    if problem.name:
        name = f"'{problem.name}'"
    text = f"needs {name} as it was at version {problem.wanted}; "
    if problem.changed_to < 0:
        return f"{text}it is at version {problem.found}, changed by something that was not recorded"
    is_last = problem.changed_to == problem.found
    last = "" if is_last else f", and it is at version {problem.found} now"
    return f"{text}{problem.changed_by}{where} made it version {problem.changed_to}{last}"


def frame_title(
    kind: FrameKind,
    pass_number: int = 0,
    word: str = "",
    action: Action | None = None,
    count: int = 1,
) -> str:
    """The title of a frame.

    Args:
        kind: when the frame was taken.
        pass_number: of the backward pass.
        word: what changed the gradients, the error, or the name of a mark.
        action: what was done to the gradients.
        count: number of gradients.

    Example:
        >>> frame_title(FrameKind.AFTER_BACKWARD, 2)
        'after backward 2'
    """
    match kind:
        case FrameKind.AFTER_BACKWARD:
            return f"after backward {pass_number}"
        case FrameKind.FAILED_BACKWARD | FrameKind.REFUSED_BACKWARD:
            return f"backward failed: {word}"
        case FrameKind.ERROR:
            return word
        case FrameKind.MARK:
            return f"mark: {word}"
        case FrameKind.AFTER_GRADIENT_CHANGE if word == "grad":  # assigned: ``w.grad = None``
            text = _action(EventKind.GRAD, action, count)
            return f"after {text}" if count > 1 else f"after .grad {text}"
        case FrameKind.AFTER_GRADIENT_CHANGE:
            return f"after {word}"
        case _:
            return str(kind.value)


def result_title(name: str, source: str) -> str:
    """The title of a frame of a result, before a later line assigned its variable again.

    Example:
        >>> result_title("loss", "train.py:7"), result_title("", "train.py:7")
        ('loss, train.py:7', 'train.py:7')
    """
    return ", ".join(filter(None, (name, source)))


def with_step(title: str, step: int) -> str:
    """The title of a frame of a recording of some steps; of other recordings ``step`` is 0.

    Example:
        >>> with_step("forward", 101), with_step("forward", 0)
        ('step 101: forward', 'forward')
    """
    return f"step {step:,}: {title}" if step else title


def sampling_note(every: int) -> str:
    """Which steps a recording with ``every=`` contains.

    Example:
        >>> sampling_note(100)
        'steps 1, 101, 201, ... are recorded (every=100); run.gradient_norms has all steps'
    """
    steps = ", ".join(str(1 + every * number) for number in range(3))
    return f"steps {steps}, ... are recorded (every={every}); run.gradient_norms has all steps"


def with_gradients(title: str, added: Iterable[tuple[str, GradientDetails]]) -> str:
    """The title of the frame after a backward pass, with the added gradients if they are short.

    Args:
        title: the title without them.
        added: the name of each gradient, and what was added.
    """
    texts = [f"{name} {added_text(each.before, each.after)}" for name, each in added]
    summary = ", ".join(texts)
    return f"{title} ({summary})" if summary and len(summary) <= _LONGEST_TITLE else title


def title_without_values(kind: FrameKind, pass_number: int, title: str) -> str:
    """The title of a frame, without the numbers that a recording adds."""
    if kind in (FrameKind.AFTER_BACKWARD, FrameKind.AFTER_AUTOGRAD_GRAD):
        return frame_title(kind, pass_number)
    return title


def added_text(before: TensorSummary | None, after: TensorSummary | None) -> str:
    """The change of a gradient in few characters: the numbers, or the norms.

    Example:
        >>> three = TensorSummary((2,), "float32", "cpu", values=(3.0, 3.0), norm=4.24)
        >>> mixed = TensorSummary((2,), "float32", "cpu", (6.0, 6.5))
        >>> added_text(None, three), added_text(three, mixed)
        ('+3', '+[3 3.5]')
        >>> added_text(None, TensorSummary((9,), "float32", "cpu", norm=0.5, min=0.0, max=0.3))
        'norm 0.5'
    """
    if after is None:
        return "added to"
    differences = _differences(before, after)
    if differences and all(each == differences[0] for each in differences):
        return _signed(differences[0])
    if differences and len(differences) <= _FEW:
        return f"+[{' '.join(map(_short, differences))}]"
    if not after.is_finite:  # a norm is that of the finite elements
        return _brief(after)
    if after.norm is None:
        return "added to"
    if before is None or before.norm is None:
        return f"norm {_short(after.norm)}"
    return f"norm {_short(before.norm)} → {_short(after.norm)}"


def gradient_change_text(before: TensorSummary | None, after: TensorSummary | None) -> str:
    """What a gradient was before and after a change, in few characters.

    Example:
        >>> one, ten = (TensorSummary((2,), "float32", "cpu", (v, v), v) for v in (1.0, 10.0))
        >>> gradient_change_text(one, ten), gradient_change_text(one, None)
        ('1 → 10', '1 → None')
    """
    old, new = _brief(before), _brief(after)
    return f"{old} → {new}" if old != new else "changed"


def _brief(summary: TensorSummary | None) -> str:
    if summary is None:
        return "None"
    values = summary.values or _constant(summary)
    if values and len({*map(repr, values)}) == 1:
        return _short(values[0])
    if summary.values and len(values) <= _FEW:
        return f"[{' '.join(map(_short, values))}]"
    if not summary.is_finite:
        counts = ((summary.nan, "NaN"), (summary.inf, "infinite"))
        return ", ".join(f"{count} {word}" for count, word in counts if count)
    return "a gradient" if summary.norm is None else f"norm {_short(summary.norm)}"


def _differences(
    before: TensorSummary | None, after: TensorSummary
) -> list[float | int | bool | complex]:
    """The difference of each element; one number if all elements of both are equal."""
    new = after.values or _constant(after)
    old = (0.0,) * len(new) if before is None else before.values or _constant(before)
    return [a - b for a, b in zip(new, old, strict=False)] if len(new) == len(old) else []


def _constant(summary: TensorSummary) -> tuple[float, ...]:
    is_constant = summary.min is not None and summary.min == summary.max
    if is_constant and not summary.nan and not summary.inf and summary.min is not None:
        return (summary.min,)
    return ()


def _short(number: complex) -> str:
    return f"{number:.4g}"


def _signed(number: complex) -> str:
    text = _short(number)
    return text if text.startswith("-") else f"+{text}"


def ranks_text(ranks: Sequence[int]) -> str:
    """Numbers of ranks as text.

    Example:
        >>> ranks_text([1]), ranks_text([0, 1, 2, 5])
        ('rank 1', 'ranks 0 to 2 and 5')
    """
    words: list[str] = []
    for run in runs_of(sorted(ranks)):
        words += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    return f"rank{'s' if len(ranks) > 1 else ''} {joined(words, len(words))}"


def rank_state_text(record: RankRecord) -> str:
    """Why there is no graph of a rank, as text that follows its name; "" if there is one.

    Example:
        >>> rank_state_text(RankRecord(3, RankState.NO_ANSWER, seconds=30.0))
        'did not answer within 30 s: its program has not got this far, or has ended'
    """
    match record.state:
        case RankState.NO_GRAPH:
            return "has recorded no graph"
        case RankState.NO_ANSWER:
            limit = f"{record.seconds:.3g} s"
            return f"did not answer within {limit}: its program has not got this far, or has ended"
        case RankState.STOPPED:
            return "had not answered when this process received SIGTERM"
        case RankState.GATHERED:
            return ""


def rank_notes(records: Sequence[RankRecord], differ: int) -> tuple[str, ...]:
    """Notes about the ranks of a gathered story.

    Args:
        records: the ranks.
        differ: number of tensors of the first frame whose ``.grad`` is not the same on all ranks.

    Example:
        >>> rank_notes([RankRecord(0, RankState.GATHERED, 0), RankRecord(1, RankState.NO_GRAPH)], 0)
        ('rank 0 of 2', 'rank 1 has recorded no graph')
    """
    here = [each for each in records if each.frame == 0]
    moment = here[0].pass_number if here else 0
    on_time = [each.rank for each in here if each.pass_number == moment]
    notes = []
    if here:
        notes.append(f"{ranks_text([each.rank for each in here])} of {len(records):,}")
    if len(here) > 1:
        notes[0] += ": the same structure"
        if differ:
            notes[0] += f"; .grad differs in {counted(differ, 'tensor')}"
        elif len(on_time) == len(here):
            notes[0] += ", and the same .grad"
    for each in records:
        if text := rank_state_text(each):
            notes.append(f"rank {each.rank} {text}")
        elif each.frame > 0:
            rows = ((each.added, "more"), (len(each.absent), "less"))
            counts = [counted(n, f"node {word}", f"nodes {word}") for n, word in rows if n]
            what = f": {' and '.join(counts)}" if counts else ""
            notes.append(f"rank {each.rank} has another structure{what}")
        if each.frame >= 0 and each.pass_number != moment:
            notes.append(
                f"rank {each.rank} is at backward pass {each.pass_number}, "
                f"{ranks_text(on_time)} at {moment}: gradients are not compared"
            )
    return tuple(notes)


def spread_text(spread: RankSpread) -> str:
    """What differs between the ranks in a ``.grad``, or in a group.

    Example:
        >>> spread_text(RankSpread((0.2, 5.1), odd=3, odd_norm=5.1, missing=(1,)))
        'norm 0.2 – 5.1 over the ranks, rank 3: 5.1; None on rank 1'
        >>> spread_text(RankSpread(missing=(1,), tensors=3))
        '3 tensors differ over the ranks; None on rank 1'
    """
    parts = []
    if spread.norms is not None:
        low, high = map(_short, spread.norms)
        text = f"norm {low} – {high} over the ranks"
        if low == high:
            text = "the same norm and other values over the ranks"
        odd = f", rank {spread.odd}: {_short(spread.odd_norm)}" if spread.odd >= 0 else ""
        parts.append(f"{text}{odd}")
    elif spread.tensors > 1:
        parts.append(f"{spread.tensors:,} tensors differ over the ranks")
        if spread.odd >= 0:
            parts[0] += f", most of all on rank {spread.odd}"
    for word, ranks in (("None", spread.missing), ("NaN or infinite", spread.not_finite)):
        if ranks:
            parts.append(f"{word} on {ranks_text(ranks)}")
    if spread.absent:
        parts.append(f"not in the graph of {ranks_text(spread.absent)}")
    return "; ".join(parts) or "differs over the ranks"


CLASS_ATTRIBUTE = "class attribute"


def how_to_register(container: str, kind: str, of_modules: bool, inner: str = "") -> str:
    """How to register what a model keeps in a plain container, or in ``inner`` ones inside of it.

    Example:
        >>> how_to_register("layers", "list", True)
        'put layers into nn.ModuleList'
    """
    if kind == CLASS_ATTRIBUTE:
        return f"create it in __init__: self.{container.rpartition('.')[2]} = ..."
    if kind not in ("list", "tuple", "dict"):
        return f"make the class {kind} an nn.Module, with super().__init__() in its __init__"
    what = "Module" if of_modules else "Parameter"
    each = f", and each {inner} in it into nn.{what}{'Dict' if inner == 'dict' else 'List'}"
    dict_or_list = "Dict" if kind == "dict" else "List"
    return f"put {container} into nn.{what}{dict_or_list}{each if inner else ''}"


def clearing_word(word: str) -> str:
    """What cleared a gradient: ``zero_grad``, or the assignment."""
    return ".grad = None" if word == "grad" else word


def inputs_text(summary: TensorSummary | None) -> str:
    """``all 3 inputs are`` or ``its input is``."""
    count = summary.numel if summary is not None else 1
    return f"all {count:,} inputs are" if count > 1 else "its input is"
