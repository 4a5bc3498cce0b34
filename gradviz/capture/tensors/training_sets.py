"""Compare three sets of tensors: a model's parameters, an optimizer's, and those in use.

Live objects are read, not changed: modules in plain lists, which ``nn.Module`` does not register,
attributes with names like ``requires_grad`` that have no effect, and the optimizers in memory.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from contextlib import suppress
from difflib import SequenceMatcher
from itertools import compress, islice, takewhile
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from gradviz.capture.autograd.tensors import is_unsure
from gradviz.facts import Flag, PlainContainer, TrainingSets
from gradviz.graph.text import WRAPPING_CLASSES, Path, without_wrappers
from gradviz.wording import CLASS_ATTRIBUTE

_OF_MODULES = frozenset(vars(nn.Module()))  # attributes that torch sets in every module
_MOST = 1_000  # entries of one container that are searched
_MOST_INSIDE = 100  # entries of a container among variables in which optimizers are searched
_LOOKS = 3  # times that a module or optimizer is read; later ones only if it grows
_NO_OWNERS = (ModuleType, type, FunctionType, torch.Tensor)
_ALIKE = 0.85  # similarity, up to 1, of a misspelled attribute to ``requires_grad``


class Unregistered(NamedTuple):
    """A parameter in a plain container of a module.

    Args:
        tensor: the parameter.
        name: its path as Python code: ``"layers[0].weight"``.
        container: path of the list, tuple or dict: ``"layers"``.
        kind: type of the container: ``"list"``, ``"tuple"``, ``"dict"``, or the class of an object
            that is no module; ``"tensor"`` if the attribute is the tensor itself, and
            ``"class attribute"`` if the class has it.
        owner: the class of the module that owns it: ``"Net"``.
        of_modules: whether the container contains modules; otherwise parameters.
        inner: type of the container in the container that contains them; "" for none.
    """

    tensor: torch.Tensor
    name: str
    container: str
    kind: str
    owner: str
    of_modules: bool
    inner: str = ""


class IneffectiveFlag(NamedTuple):
    """An attribute that was set in order to freeze a tensor, but that PyTorch does not read.

    Args:
        tensor: the tensor, which still requires grad.
        attribute: ``"require_grad"``, or ``"requires_grad"`` of a module.
        owner: class of the module that has the attribute; "" if the tensor itself has it.
        parameter: path of the tensor within that module: ``"0.weight"``.
    """

    tensor: torch.Tensor
    attribute: str
    owner: str = ""
    parameter: str = ""


class LiveOptimizer(NamedTuple):
    """An optimizer and its parameters."""

    name: str
    tensors: tuple[torch.Tensor, ...]


def unregistered(module: nn.Module) -> list[Unregistered]:
    """The parameters that a model has in plain lists, dicts and objects, and its plain leaves.

    Args:
        module: the model; its submodules are searched as well.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = [nn.Linear(2, 2, bias=False)]
        >>> [(each.name, each.container) for each in unregistered(Net())]
        [('layers[0].weight', 'layers')]
    """
    found: dict[int, Unregistered] = {}
    of_classes: dict[type, list[tuple[str, Any]]] = {}
    for path, owner in module.named_modules():
        cls, prefix = type(owner), f"{path}." * bool(path)
        if (of_class := of_classes.get(cls)) is None:
            of_class = of_classes[cls] = _attributes_of_class(cls)
        if cls.__module__.startswith(("torch.distributed.", "torch.nn.parallel.")):
            continue  # a wrapper keeps parameters for itself
        attributes = vars(owner)
        buffers = attributes.get("_buffers") or {}
        own = [row for row in attributes.items() if row[0] not in _OF_MODULES]
        for attribute, value in [*own, *buffers.items()] if buffers else own:
            if attribute not in _OF_MODULES and type(value) not in _SIMPLE:
                for row in _rows_of(owner, prefix, attribute, value, buffers):
                    found.setdefault(id(row.tensor), row)
        for row in _rows_of_class(owner, prefix, of_class):
            found.setdefault(id(row.tensor), row)
    registered = set(map(id, parameters_of(module))) if found else ()
    return [row for key, row in found.items() if key not in registered]


_SIMPLE = frozenset((bool, int, float, str, type(None)))


def _rows_of(
    owner: nn.Module, prefix: str, attribute: str, value: object, buffers: Container[str]
) -> Iterator[Unregistered]:
    """The parameters and plain leaves in an attribute of a module."""
    rows: Iterable[tuple[torch.Tensor, str, bool, str]] = ()
    if type(value) is torch.Tensor and _is_plain_leaf(value):
        rows = [(value, f"{prefix}{attribute}", False, "")]
    elif isinstance(value, (list, tuple, dict)) or _is_of_the_same_code(value, owner):
        rows = _parameters_in(value, f"{prefix}{attribute}")
    kind = "tensor" if type(value) is torch.Tensor else type(value).__name__
    plain = (cls.__name__ for cls in (dict, list, tuple) if isinstance(value, cls))
    kind = "buffer" if attribute in buffers else next(plain, kind)
    for tensor, name, is_module, inner in rows:
        where = f"{prefix}{attribute}", kind, type(owner).__name__
        yield Unregistered(tensor, name, *where, is_module, inner)


def _attributes_of_class(cls: type) -> list[tuple[str, Any]]:
    """The modules and parameters that are attributes of a class, and not of its instances."""
    classes = takewhile(lambda each: each is not nn.Module, cls.__mro__)
    rows = (row for each in classes for row in vars(each).items())
    return [row for row in rows if isinstance(row[1], (nn.Module, nn.Parameter))]


def _rows_of_class(
    owner: nn.Module, prefix: str, attributes: Iterable[tuple[str, Any]]
) -> Iterator[Unregistered]:
    """The parameters in the attributes of the class of a module."""
    for attribute, value in attributes:
        name, where = f"{prefix}{attribute}", (CLASS_ATTRIBUTE, type(owner).__name__)
        if isinstance(value, nn.Module):
            for own, tensor in value.named_parameters():
                yield Unregistered(tensor, f"{name}.{own}", name, *where, True, "")
        else:
            yield Unregistered(value, name, name, *where, False, "")


def own_type(module: nn.Module) -> type:
    """The class of a module; for FSDP2, which replaces it by a subclass, the one before."""
    kind, name = type(module), "torch.distributed.fsdp"
    return kind.__mro__[2] if kind.__module__.startswith(name) and kind.__mro__[3:] else kind


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """What ``parameters()`` lists; the registered ones if a class gives it other arguments."""
    try:
        return [*module.parameters()]
    except TypeError:
        return [each for _, each in nn.Module.named_parameters(module)]


def modules_in(module: nn.Module, prefix: str) -> list[tuple[Path, nn.Module]]:
    """A module and each module in it, under each of its paths.

    Args:
        module: the outermost one.
        prefix: what it is called; "" if paths begin within it.
    """
    try:
        found = list(module.named_modules(remove_duplicate=False))
    except (RecursionError, TypeError):  # it contains itself, or has a method of its own
        found = list(module.named_modules())
    is_wrapped = type(module).__name__ in WRAPPING_CLASSES
    outer = prefix.split(".") if prefix else []
    rows = ((without_wrappers(n.split(".") if n else [], is_wrapped), each) for n, each in found)
    return [((*outer, *path), each) for path, each in rows]


def _is_plain_leaf(value: object) -> bool:
    """Whether it is a leaf that requires grad and is no ``nn.Parameter``."""
    if type(value) is not torch.Tensor or not value.requires_grad:
        return False
    return not is_unsure(value) and value.is_leaf


def _is_of_the_same_code(value: object, owner: nn.Module) -> bool:
    """Whether an object that is no module has a class of the file in which that of a module is."""
    cls = type(value)
    is_other = issubclass(cls, (*_NO_OWNERS, nn.Module, torch.optim.Optimizer))
    return not is_other and cls.__module__ == type(owner).__module__


def _parameters_in(
    container: Any, name: str, inner: str = ""
) -> Iterator[tuple[torch.Tensor, str, bool, str]]:
    is_object = not isinstance(container, (list, tuple, dict))
    container = getattr(container, "__dict__", {}) if is_object else container
    items = container.items() if isinstance(container, dict) else enumerate(container)
    for key, value in islice(items, _MOST):
        path = f"{name}.{key}" if is_object else f"{name}[{key!r}]"
        if isinstance(value, nn.Module):
            yield from ((p, f"{path}.{own}", True, inner) for own, p in value.named_parameters())
        elif isinstance(value, nn.Parameter) or _is_plain_leaf(value):
            yield value, path, False, inner
        elif type(value) in (list, tuple, dict) and not (is_object or inner):
            yield from _parameters_in(value, path, type(value).__name__)


def ineffective_flags(modules: Iterable[nn.Module]) -> list[IneffectiveFlag]:
    """Attributes that were set to False in order to freeze something, but have no effect.

    Args:
        modules: models; their submodules and parameters are checked.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> layer.requires_grad = False
        >>> [(flag.attribute, flag.owner) for flag in ineffective_flags([layer])]
        [('requires_grad', 'Linear')]
    """
    found: dict[int, IneffectiveFlag] = {}
    for module in modules:
        for owner in module.modules():
            attribute = _flag_of(owner, "requires_grad")
            if attribute:
                for path, tensor in owner.named_parameters():
                    row = IneffectiveFlag(tensor, attribute, type(owner).__name__, path)
                    if tensor.requires_grad:
                        found.setdefault(id(tensor), row)
        for tensor in parameters_of(module):
            if (flag := flag_of_tensor(tensor)) is not None:
                found.setdefault(id(tensor), flag)
    return list(found.values())


def flag_of_tensor(tensor: torch.Tensor) -> IneffectiveFlag | None:
    """Such an attribute of one tensor; None if it has none."""
    attribute = _flag_of(tensor, "") if tensor.requires_grad else ""
    return IneffectiveFlag(tensor, attribute) if attribute else None


def _flag_of(owner: object, exact: str) -> str:
    """The name of an attribute similar to ``requires_grad`` that is False; "" for none."""
    own: dict[str, object] = getattr(owner, "__dict__", {})
    off = (name for name, value in own.items() if value is False)
    alike = (n for n in off if n == exact or (n != "requires_grad" and _is_misspelled(n)))
    return next(alike, "")


@functools.lru_cache(maxsize=1024)
def _is_misspelled(name: str) -> bool:
    return SequenceMatcher(None, name, "requires_grad").ratio() >= _ALIKE


class Live(NamedTuple):
    """The optimizers in this process, and the modules that are in no other module."""

    optimizers: tuple[LiveOptimizer, ...]
    modules: tuple[nn.Module, ...]


def live() -> Live:
    """Find the optimizers and models in memory. It searches all objects of the process.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> any(each is layer for each in live().modules)
        True
    """
    # Check the types, without reading the class of an object, which may run code.
    optimizer_types, module_types = _subclasses(torch.optim.Optimizer), _subclasses(nn.Module)
    objects = gc.get_objects()
    wanted = optimizer_types | module_types
    found = list(compress(objects, map(wanted.__contains__, map(type, objects))))
    optimizers: list[Any] = [each for each in found if type(each) in optimizer_types]
    made: list[Any] = [each for each in found if type(each) in module_types]
    # An optimizer whose __init__ raised has no parameters.
    modules = [each for each in made if {"_parameters", "_modules"} <= vars(each).keys()]
    inner = {id(part) for each in modules for part in vars(each).get("_modules", {}).values()}
    return Live(
        tuple(LiveOptimizer(type(each).__name__, tuple(_held_by(each))) for each in optimizers),
        tuple(each for each in modules if id(each) not in inner),
    )


def _subclasses(cls: type) -> set[type]:
    """A class and all classes derived from it."""
    found, waiting = {cls}, [cls]
    while waiting:
        subclasses: list[type] = type.__subclasses__(waiting.pop())
        new = set(subclasses) - found
        found |= new
        waiting += new
    return found


def _held_by(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in vars(optimizer).get("param_groups", ()):
        yield from (p for p in group.get("params", ()) if issubclass(type(p), torch.Tensor))


def _wrapped(value: object) -> torch.optim.Optimizer | None:
    """The optimizer that another one wraps, as in accelerate; no property is read."""
    is_one = issubclass(type(value), torch.optim.Optimizer)
    inner: Any = vars(value).get("optimizer") if is_one else None
    return inner if issubclass(type(inner), torch.optim.Optimizer) else None


def entries_of(variables: Iterable[object]) -> list[Any]:
    """The first entries of the lists, tuples and dicts among variables.

    Example:
        >>> entries_of([1, [2], {"a": 3}])
        [2, 3]
    """
    found: list[Any] = []
    for each in variables:
        if isinstance(each, (list, tuple)):
            found += each[:_MOST_INSIDE]
        elif type(each) is dict:
            found += islice(each.values(), _MOST_INSIDE)
    return found


def attributes_of(values: Iterable[object]) -> list[Any]:
    """The values of the attributes of objects that are no modules, classes, functions or tensors.

    No property is read.
    """
    found: list[Any] = []
    for each in values:
        if type(each).__dictoffset__ and not issubclass(type(each), _NO_OWNERS):
            with suppress(AttributeError):  # a ``TypeVar`` of Python 3.12 has a hidden one
                own = object.__getattribute__(each, "__dict__")
                found += islice(own.values(), _MOST_INSIDE)
    return found


class _SeenOptimizer:
    """An optimizer that a variable held: its class, its parameters, and whether it made a step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.name = type(optimizer).__name__
        self.ref = weakref.ref(optimizer)
        self.held: dict[Hashable, None] = {}  # in this order keys are given: no set
        self.count = self.looks = 0
        self.has_stepped = False


class SeenSets:
    """The modules and optimizers that variables of a program held, read while it ran.

    They are gone when the function that created them has returned. No tensor is kept alive.

    Args:
        identity_of: the identity of a recorded tensor; None for any other.
        enter: the identity of a tensor, which is recorded from now on; None for a frozen one.

    Attributes:
        plain: by the identities of parameters, the plain container that holds them.
        flags: by the identities of parameters, the attribute that was set to freeze them.
        names: the names of parameters, by their identities.
        elsewhere: the number of steps of optimizers in other threads, which are not recorded.

    Example:
        >>> layer, seen = nn.Linear(2, 2), SeenSets(id)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> seen.look([layer, optimizer])
        >>> sorted(seen.by_key({id(layer.weight): "n0", id(layer.bias): "n1"}.get).waiting.items())
        [('n0', 'SGD'), ('n1', 'SGD')]
    """

    def __init__(
        self,
        identity_of: Callable[[torch.Tensor], Hashable],
        enter: Callable[[torch.Tensor], Hashable] | None = None,
    ) -> None:
        self.plain: dict[Hashable, PlainContainer] = {}
        self.flags: dict[Hashable, Flag] = {}
        self.names: dict[Hashable, str] = {}
        self.elsewhere = 0
        self._identity_of, self._enter = identity_of, enter or identity_of
        self._looks: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._optimizers: list[_SeenOptimizer] = []
        self._by_id: dict[int, _SeenOptimizer] = {}

    def look(self, variables: Iterable[object]) -> None:
        """Read the modules and optimizers among variables, and in lists and dicts among them."""
        variables = list(variables)
        inside = entries_of(variables)
        variables += [e for e in inside if issubclass(type(e), torch.optim.Optimizer)]
        variables += filter(None, map(_wrapped, variables))
        inputs = {id(value) for value in variables if _is_plain_leaf(value)}
        for value in variables:
            if issubclass(type(value), torch.optim.Optimizer):
                self._look_at_optimizer(value)  # type: ignore[arg-type]
            elif issubclass(type(value), nn.Module):
                self._look_at_module(value, inputs)  # type: ignore[arg-type]

    def call(self, tensors: Iterable[tuple[torch.Tensor, str]]) -> None:
        """Store the names of parameters; one with a gradient may be of an earlier program."""
        for tensor, name in tensors:
            is_trained = type(tensor) is nn.Parameter and tensor.requires_grad
            is_trained = is_trained and tensor.grad is None
            identity = self._identity_of(tensor) if is_trained else None
            if identity is not None:
                self.names.setdefault(identity, name)

    def begin_step(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer begins a step; a trainer may hold it where no variable is seen."""
        self._look_at_optimizer(optimizer).has_stepped = True

    def by_key(self, key_of: Callable[[Any], str]) -> TrainingSets:
        """What they held, by the keys of the leaves in the frames.

        Args:
            key_of: the key for an identity.
        """
        held = {identity: each for each in self._optimizers for identity in each.held}
        stepped = {key for each in self._optimizers if each.has_stepped for key in each.held}
        waiting = {key: each.name for key, each in held.items() if key not in stepped}
        return TrainingSets(
            {key_of(each): row for each, row in self.plain.items() if each is not None},
            {key_of(each): row for each, row in self.flags.items() if each is not None},
            {key_of(key): name for key, name in waiting.items()},
            frozenset(map(key_of, held)),
            self.elsewhere,
            {key_of(each): name for each, name in self.names.items() if each in held},
        )

    def _seen(self, optimizer: torch.optim.Optimizer) -> _SeenOptimizer:
        seen = self._by_id.get(id(optimizer))
        if seen is None or seen.ref() is not optimizer:
            seen = self._by_id[id(optimizer)] = _SeenOptimizer(optimizer)
            self._optimizers.append(seen)
        return seen

    def _look_at_optimizer(self, optimizer: torch.optim.Optimizer) -> _SeenOptimizer:
        seen = self._seen(optimizer)
        count = 0  # of each step: a list of the tensors would take longer
        for group in vars(optimizer).get("param_groups", ()):
            count += len(group.get("params", ()))
        if seen.looks < _LOOKS or seen.count != count:
            seen.looks, seen.count = seen.looks + 1, count
            found = filter(None, map(self._enter, _held_by(optimizer)))
            seen.held.update(dict.fromkeys(found))
        return seen

    def _look_at_module(self, module: nn.Module, inputs: Container[int]) -> None:
        looks = self._looks.get(module, 0)
        if looks >= _LOOKS:
            return
        self._looks[module] = looks + 1
        for row in unregistered(module):
            if row.kind in ("tensor", "buffer") and id(row.tensor) in inputs:
                continue  # an input that the module keeps
            container = PlainContainer(*row[2:])
            self.plain.setdefault(self._identity_of(row.tensor), container)
        for flag in ineffective_flags([module]):
            found = Flag(flag.attribute, flag.owner, flag.parameter)
            self.flags.setdefault(self._identity_of(flag.tensor), found)
