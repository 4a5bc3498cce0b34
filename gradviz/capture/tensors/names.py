"""The tensors in the arguments of a call, and the user's names of them.

The names come from a module, a dict, or the variables of the calling code.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
import numbers
import re
import reprlib
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import NamedTuple, TypeGuard, TypeVar

import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.capture.autograd.sharded import sharded_parameter
from gradviz.capture.autograd.tensors import unsure_among
from gradviz.capture.tensors.training_sets import modules_in, unregistered
from gradviz.errors import SubjectError, UsageError
from gradviz.graph.text import plain_name

_ALLOWED = (
    "an nn.Module, a dict of name -> tensor (or module, or list or dict of tensors), "
    "{} or False for no names, or None for the caller's variables"
)
_PER_CONTAINER = 1_000  # entries of one variable that are searched
_CONTAINERS = 10_000  # entries of all variables together
_MOST_MODULES = 5_000  # whose classes are kept
_NAMED = torch.Tensor, torch.nn.Module
_HISTORY = re.compile(r"_+|_i*\d*|_[ido]h")  # IPython's _, __, _1, _i1, _oh, ...


class Named(NamedTuple):
    """A tensor, its name, and the other names under which modules share it."""

    tensor: torch.Tensor
    name: str
    aliases: tuple[str, ...]


class Names:
    """Names of tensors, each tensor once. It keeps the tensors alive as long as it exists.

    Args:
        entries: the tensors.
        modules: the class of each module among what names the tensors, by its path.

    Attributes:
        readable: those whose ``grad_fn`` may be read; iteration is over these.
        unsure: the others.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
        >>> names = Names.of(model, None)
        >>> [(name, aliases) for _, name, aliases in names]
        [('0.weight', ())]
        >>> names.modules
        {'': 'Sequential', '0': 'Linear'}
    """

    def __init__(self, entries: list[Named], modules: Mapping[str, str] | None = None) -> None:
        self.modules: Mapping[str, str] = modules or {}
        unsure = unsure_among([named.tensor for named in entries])
        self.unsure = [named for named in entries if id(named.tensor) in unsure]
        self.readable = [named for named in entries if id(named.tensor) not in unsure]

    def __iter__(self) -> Iterator[Named]:
        return iter(self.readable)

    def __len__(self) -> int:
        return len(self.readable)

    @property
    def entries(self) -> list[Named]:
        """All names, the unsure ones last."""
        return [*self.readable, *self.unsure]

    @staticmethod
    def of(names: object, frame: types.FrameType | None) -> Names:
        """Find the names of tensors.

        With a module or a dict, the first name of a tensor is its name and the others are its
        aliases; a tensor that is not in the module has the name of its variable. With variables,
        the path in the largest module has priority, then names other than those of ``for`` loops,
        then the shortest name, then local variables, then alphabetical order; names with a leading
        underscore come last; aliases are the names within a module that shares the tensor.

        Args:
            names: an ``nn.Module``, a dict, False for no names, or None for the variables of
                ``frame``.
            frame: the calling code; None if there is none.

        Raises:
            UsageError: if ``names``, or a value in the dict, is anything else.
        """
        if names is False:
            return Names([])
        if names is None:
            return Names([]) if frame is None else Names.around(frame)
        if isinstance(names, torch.nn.Module):
            own = _first_come(_of_module(names, ""))
            known = {id(named.tensor) for named in own}
            others = () if frame is None else Names.around(frame, [names]).entries
            more = [each for each in others if id(each.tensor) not in known]
            return Names([*own, *more], classes_of(names))
        if isinstance(names, Mapping):
            classes: dict[str, str] = {}
            for key, value in names.items():
                if isinstance(value, torch.nn.Module):
                    classes.update(classes_of(value, str(key)))
            return Names(_first_come(_of_dict(names)), classes)
        raise UsageError(f"names cannot be {shortly(names)}: pass {_ALLOWED}")

    @staticmethod
    def around(
        frame: types.FrameType,
        others: Sequence[torch.nn.Module] = (),
        outer: Sequence[types.FrameType] = (),
    ) -> Names:
        """Names from the variables of a frame and the modules of outer ones; not in ``others``."""
        skipped, own = set(map(id, others)), _variables(frame)
        known, more = {e.name for e in own}, (e for one in outer for e in _variables(one))
        own += [e for e in more if e.name not in known and _is_a(e.value, torch.nn.Module)]
        variables = [each for each in own if id(each.value) not in skipped]
        return Names(_of_variables(variables), _classes_of_variables(variables))

    @staticmethod
    def of_namespace(namespace: Mapping[str, object]) -> Names:
        """Names from the variables of a namespace, for example of a script that has ended.

        Example:
            >>> [name for _, name, _ in Names.of_namespace({"x": torch.ones(1), "n": 3})]
            ['x']
        """
        found = [_Variable(name, value, False) for name, value in namespace.items()]
        variables = [each for each in found if not _is_machinery(each)]
        return Names(_of_variables(variables), _classes_of_variables(variables))


def classes_of(module: torch.nn.Module, prefix: str = "") -> dict[str, str]:
    """The class of a module and of each module in it, by their paths.

    Args:
        module: the outermost one.
        prefix: what it is called; "" if paths begin within it.

    Example:
        >>> classes_of(torch.nn.Sequential(torch.nn.ReLU()), "net")
        {'net': 'Sequential', 'net.0': 'ReLU'}
    """
    found = modules_in(module, prefix)[:_MOST_MODULES]
    return {".".join(path): type(each).__name__ for path, each in found}


def _classes_of_variables(variables: Sequence[_Variable]) -> dict[str, str]:
    classes: dict[str, str] = {}
    for name, value, *_ in variables:
        if _is_a(value, torch.nn.Module) and len(classes) < _MOST_MODULES:
            try:
                classes.update(classes_of(value, name))
            except Exception:  # one odd object among the variables must not spoil the picture
                continue
    return classes


def module_names(modules: Sequence[torch.nn.Module], frame: types.FrameType) -> list[str]:
    """The names of modules: their variables, or else their classes; a single module is "".

    Args:
        modules: each once; submodules have paths within them.
        frame: the code whose variables are searched.
    """
    if len(modules) < 2:
        return [""] * len(modules)
    named = [each for each in _variables(frame) if _is_a(each.value, torch.nn.Module)]
    found = {id(each.value): each.name for each in reversed(named)}
    names: list[str] = []
    for module in modules:
        name = found.get(id(module), type(module).__name__)
        more = (f"{name}_{number}" for number in count(2))
        names.append(next(each for each in chain([name], more) if each not in names))
    return names


def _first_come(pairs: list[tuple[torch.Tensor, str]]) -> list[Named]:
    """For each tensor, the first name is its name, the others are aliases."""
    found: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for tensor, name in pairs:
        names = found.setdefault(id(tensor), (tensor, []))[1]
        if name not in names:
            names.append(name)
    return [Named(tensor, names[0], tuple(names[1:])) for tensor, names in found.values()]


def _of_dict(names: Mapping[object, object]) -> list[tuple[torch.Tensor, str]]:
    pairs: list[tuple[torch.Tensor, str]] = []
    for key, value in names.items():
        if not isinstance(key, str):
            raise UsageError(f"names has the key {shortly(key)}: a name must be a string")
        if isinstance(value, torch.Tensor):
            pairs.append((value, key))
        elif isinstance(value, torch.nn.Module):
            pairs.extend(_of_module(value, f"{key}."))
        elif isinstance(value, (list, tuple, Mapping)):
            for part, step in parts(value):
                if not isinstance(part, torch.Tensor):
                    raise UsageError(_not_a_tensor(f"{key}{step}", part))
                pairs.append((part, f"{key}{step}"))
        else:
            raise UsageError(_not_a_tensor(key, value))
    return pairs


def _not_a_tensor(name: str, value: object) -> str:
    return f"names gives {shortly(name)} for {shortly(value)}, which is not a tensor"


_LISTINGS = (torch.nn.Module.named_parameters, torch.nn.Module.named_buffers)


def _of_module(module: torch.nn.Module, prefix: str) -> list[tuple[torch.Tensor, str]]:
    """Parameters and buffers by all their names, in the order of registration.

    Unregistered ones, in plain lists, come last.
    """
    kind, owner = type(module), type(module).__name__
    listings = (module.named_parameters, module.named_buffers)
    members: list[tuple[str, torch.Tensor]] = []
    try:
        if (kind.named_parameters, kind.named_buffers) == _LISTINGS:  # one walk for both
            inner = list(module.named_modules(remove_duplicate=False))
            for name in ("_parameters", "_buffers"):
                for path, each in inner:
                    path = f"{path}." if path else ""
                    rows = getattr(each, name).items()
                    members += [(f"{path}{n}", t) for n, t in rows if t is not None]
        else:
            members = [row for listing in listings for row in listing(remove_duplicate=False)]
    except (RecursionError, TypeError):
        # A module that contains itself, or whose method does not accept the option.
        members = [row for listing in listings for row in listing()]
    pairs = [(sharded_parameter(t), prefix + plain_name(name, owner)) for name, t in members]
    pairs.extend((each.tensor, prefix + each.name) for each in unregistered(module))
    return pairs


class _Variable(NamedTuple):
    name: str
    value: object
    is_global: bool
    is_of_loop: bool = False


def locals_of(frame: types.FrameType) -> dict[str, object]:
    """The local variables of a frame, without keeping any of them alive.

    Up to Python 3.12 the first read of ``f_locals`` of a function creates a dict that lives as
    long as the call, so that ``del x`` in it would no longer free ``x``. That dict is cleared
    again, unless other code holds it, as after ``saved = locals()``.
    """
    found = frame.f_locals
    # pytest keeps what an assertion computed in variables such as ``@py_assert1``.
    local = {name: value for name, value in found.items() if name[:1] != "@"}
    is_copy = type(found) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED
    # Three references: the frame's, this function's, and the argument itself.
    if is_copy and sys.getrefcount(found) <= 3:
        found.clear()
    return local


def with_attributes(local: dict[str, object]) -> dict[str, object]:
    """Local variables, and the attributes of ``self`` in a method.

    Args:
        local: the variables. Modules are not included; their own names are used.

    Example:
        >>> from types import SimpleNamespace
        >>> list(with_attributes({"self": SimpleNamespace(model=1)}))
        ['self', 'self.model']
    """
    owner = local.get("self")
    if owner is None or _is_a(owner, torch.nn.Module) or _is_a(owner, torch.Tensor):
        return local
    try:
        return {**local, **{f"self.{name}": value for name, value in vars(owner).items()}}
    except Exception:  # it has none, or its ``__getattr__`` raised
        return local


def _variables(frame: types.FrameType) -> list[_Variable]:
    """The variables visible to code in the frame, local ones first."""
    loops = _loop_variables(frame.f_code)
    local = with_attributes(locals_of(frame))
    visible = [
        _Variable(name, value, False, name in loops)
        for name, value in local.items()
        if _may_name(type(value))
    ]
    for name, value in list(frame.f_globals.items()):
        if _may_name(type(value)) and name not in local:
            visible.append(_Variable(name, value, True))
    return [variable for variable in visible if not _is_machinery(variable)]


@functools.lru_cache(maxsize=1_000)
def _loop_variables(code: types.CodeType) -> frozenset[str]:
    """The variables of ``for`` loops, which name another value in each turn."""
    found: set[str] = set()
    awaited = 0  # how many values of the iterator are not stored yet
    for each in dis.get_instructions(code):
        if each.opname == "FOR_ITER":
            awaited = 1
        elif awaited and each.opname == "UNPACK_SEQUENCE":
            awaited += (each.arg or 0) - 1
        elif awaited and each.opname.startswith("STORE_"):
            names = each.argval if isinstance(each.argval, tuple) else (each.argval,)
            found.update(map(str, names))
            awaited -= len(names)
    return frozenset(found)


def variables_of(frame: types.FrameType) -> list[object]:
    """The values of the variables visible to code in a frame, local ones first.

    Example:
        >>> x = object()
        >>> any(each is x for each in variables_of(sys._getframe()))
        True
    """
    return [*with_attributes(locals_of(frame)).values(), *frame.f_globals.values()]


def _may_name(kind: type) -> bool:
    """Whether values of a type are tensors, or can contain some."""
    is_holder = issubclass(kind, (torch.Tensor, torch.nn.Module, list, tuple, dict))
    return is_holder or dataclasses.is_dataclass(kind)


def _is_machinery(variable: _Variable) -> bool:
    """Whether a variable belongs to Python or IPython, not to the user."""
    if variable.name in ("In", "Out"):
        return _is_a(variable.value, list) or _is_a(variable.value, dict)
    return _is_reserved(variable.name)


@functools.lru_cache(maxsize=4_096)
def _is_reserved(name: str) -> bool:
    return name.startswith("__") or _HISTORY.fullmatch(name) is not None


_T = TypeVar("_T")


def _is_a(value: object, kind: type[_T]) -> TypeGuard[_T]:
    """Check the type, not the object: reading the class of a proxy may run code."""
    return issubclass(type(value), kind)


_Rank = tuple[bool, int, bool, int, bool, str]


class _Best(NamedTuple):
    """The best name of a tensor so far, and its names in the best module that contains it."""

    tensor: torch.Tensor
    rank: _Rank
    shared_rank: _Rank | None
    shared: tuple[str, ...]


def _of_variables(variables: list[_Variable]) -> list[Named]:
    best: dict[int, _Best] = {}
    budget = _CONTAINERS
    for variable in variables:
        # One unusual object among the variables must not cause a failure.
        try:
            budget -= _look(variable, budget, best)
        except Exception:
            continue
    rows = ((found, found.rank[-1]) for found in best.values())
    return [Named(e.tensor, name, tuple(n for n in e.shared if n != name)) for e, name in rows]


def _look(variable: _Variable, budget: int, best: dict[int, _Best]) -> int:
    """Enter the names that a variable gives to tensors; returns the number of entries read."""
    name, value = variable.name, variable.value
    if _is_a(value, torch.Tensor):
        _enter(best, value, [name], variable)
    elif _is_a(value, torch.nn.Module):
        found = _first_come(_of_module(value, f"{name}."))
        for named in found:
            _enter(best, named.tensor, [named.name, *named.aliases], variable, len(found))
    elif _may_name(type(value)):
        entries = list(islice(parts(value, _NAMED), min(budget, _PER_CONTAINER)))
        for part, step in entries:
            if _is_a(part, torch.Tensor):
                _enter(best, part, [name + step], variable)
            elif _is_a(part, torch.nn.Module) and not name.startswith(("_", "self._")):
                # A private list, as that of a trainer in a library, names no module of the user's.
                for named in _first_come(_of_module(part, f"{name}{step}.")):
                    _enter(best, named.tensor, [named.name], variable)
        return len(entries)
    return 0


def _enter(
    best: dict[int, _Best],
    tensor: torch.Tensor,
    names: list[str],
    variable: _Variable,
    module_size: int = 0,
) -> None:
    # The larger module has priority, and any module over a plain variable. The variable of a loop
    # (``for p in model.parameters()``) names another tensor in each turn.
    name, is_of_loop = names[0], variable.is_of_loop
    rank = (name.startswith("_"), -module_size, is_of_loop, len(name), variable.is_global, name)
    old = best.get(id(tensor))
    is_shared = len(names) > 1
    new = _Best(tensor, rank, rank if is_shared else None, tuple(names) if is_shared else ())
    if old is not None:
        if old.shared_rank is not None and (new.shared_rank is None or old.shared_rank < rank):
            new = new._replace(shared_rank=old.shared_rank, shared=old.shared)
        new = new._replace(rank=min(rank, old.rank))
    best[id(tensor)] = new


_ALLOWED_SUBJECTS = "a tensor, a GradientEdge, or tuples, lists, dicts and dataclasses of them"


@dataclass(frozen=True, eq=False)
class Subject:
    """One tensor (or edge) to draw.

    Args:
        value: the tensor, or the ``GradientEdge``.
        path: the rest of its name after the variable: ``""`` for the variable itself, ``"[0]"``,
            ``"['loss']"``, ``".logits"`` for a part of it.
    """

    value: torch.Tensor | GradientEdge
    path: str = ""


def flatten(subjects: tuple[object, ...], caller: str = "draw") -> list[Subject]:
    """Find the tensors in the arguments, in order.

    Args:
        subjects: tensors, gradient edges, and tuples, lists, dicts, namedtuples or dataclasses
            of them at any depth. Other values in a container are ignored.
        caller: the verb of the function that was called, for messages.

    Returns:
        One `Subject` per tensor.

    Raises:
        SubjectError: if there is no tensor; the message says what to pass instead.

    Example:
        >>> x = torch.ones(2)
        >>> [subject.path for subject in flatten((x, {"loss": x, "parts": [x, None]}))]
        ['', "['loss']", "['parts'][0]"]
    """
    if not subjects:
        raise SubjectError(f"nothing to {caller}: pass {_ALLOWED_SUBJECTS}")
    found: list[Subject] = []
    for subject in subjects:
        before = len(found)
        found.extend(_tensors(subject, caller))
        if len(found) == before:
            raise SubjectError(_complaint(subject, caller))
    return found


def maker_of(tensor: torch.Tensor) -> Node | None:
    """The ``grad_fn`` of a tensor.

    Raises:
        SubjectError: if torch raises.
    """
    try:
        return tensor.grad_fn
    except RuntimeError as error:
        raise SubjectError(
            f"cannot tell where a tensor of shape {tuple(tensor.shape)} came from: it is a view "
            "made under no_grad, or one of several, and its base was changed in place since: "
            "make the view again after the change, or pass its base"
        ) from error


def shortly(value: object) -> str:
    """The ``repr`` of a value in one line, truncated; the type of a module; never raises.

    Example:
        >>> shortly(list(range(1000))), shortly(torch.nn.Linear(1, 1))
        ('[0, 1, 2, 3, 4, 5, ...]', 'a Linear')
    """
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__}"
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:
        return f"<{type(value).__name__}>"


def parts(value: object, named: type | tuple[type, ...] = object) -> Iterator[tuple[object, str]]:
    """The entries of a container, each with its index or attribute; nothing for other values.

    Of a dict only entries of types in ``named`` come with their keys, whose text takes time.

    Example:
        >>> list(parts({"a": 1}))
        [(1, "['a']")]
    """
    if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        for key, part in value.items():
            yield part, f"[{shortly(key)}]" if issubclass(type(part), named) else ""
    elif fields := _fields(value):
        yield from ((getattr(value, field, None), f".{field}") for field in fields)
    elif isinstance(value, (list, tuple)):
        yield from ((part, f"[{index}]") for index, part in enumerate(value))


def _fields(value: object) -> tuple[str, ...]:
    """Names of the entries of a dataclass, a namedtuple, or a result such as ``torch.max``'s."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(item.name for item in dataclasses.fields(value))
    if isinstance(value, tuple):
        return tuple(getattr(value, "_fields", getattr(value, "__match_args__", ())))
    return ()


def _tensors(subject: object, caller: str) -> Iterator[Subject]:
    """Search a subject depth first with a stack, each container once (it may contain itself)."""
    seen: set[int] = set()
    stack: list[tuple[object, str]] = [(subject, "")]
    while stack:
        value, path = stack.pop()
        if isinstance(value, (torch.Tensor, GradientEdge)):
            yield Subject(value, path)
        elif isinstance(value, (torch.nn.Module, Node)) or _is_tensor_method(value):
            # It cannot be drawn, but was probably meant to be.
            raise SubjectError((f"at {path}: " if path else "") + _complaint(value, caller))
        elif id(value) not in seen:
            seen.add(id(value))
            stack.extend((part, path + step) for part, step in reversed(list(parts(value))))


def _is_tensor_method(value: object) -> bool:
    return callable(value) and isinstance(getattr(value, "__self__", None), torch.Tensor)


def _complaint(value: object, caller: str) -> str:
    """One line: what was passed, why it cannot be drawn, and what to pass instead."""
    if value is None:
        why = "loss.backward() returns None, and .grad is None before it"
        return f"cannot {caller} None: pass the loss; {why}"
    if _is_tensor_method(value):
        name = getattr(value, "__name__", "mean")
        return f"cannot {caller} .{name}, a method: did you forget the call: loss.{name}()"
    if isinstance(value, (list, tuple, Mapping)) or _fields(value):
        return f"no tensor in {shortly(value)}: pass {_ALLOWED_SUBJECTS}"
    of = "a module" if isinstance(value, torch.nn.Module) else type(value).__name__
    return f"cannot {caller} {shortly(value)} ({of}): {_advice(value, caller)}"


_FUNCTIONS = {"draw": "draw", "trace": "trace", "sum up": "summary", "list": "memory"}
"""The functions that take names, by the verb of their messages."""


def _advice(value: object, caller: str) -> str:
    if isinstance(value, torch.nn.Module):
        call = _FUNCTIONS.get(caller)
        return f"pass its output: {call}(model(x), names=model)" if call else "pass its output"
    if isinstance(value, Node):
        return "pass the tensor it made, or torch.autograd.graph.GradientEdge(node, 0)"
    if isinstance(value, numbers.Number):
        return "it has left autograd (was .item() called?): pass the tensor itself"
    if isinstance(value, (str, bytes)):
        return "pass the tensor itself, not its name"
    if type(value).__module__.partition(".")[0] == "numpy":
        return "numpy records no gradients: pass the tensor it was made from"
    if isinstance(value, torch.optim.Optimizer):
        return "pass the loss that it minimizes"
    if isinstance(value, type):
        return f"it is a class: pass {_ALLOWED_SUBJECTS}"
    if isinstance(value, Iterator):
        return "it can be read only once: pass list(...) of it"
    if callable(value):
        return "pass what it returns"
    return f"pass {_ALLOWED_SUBJECTS}"
