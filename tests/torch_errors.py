"""For each of PyTorch's exception texts a program that provokes it, and what it says."""

from __future__ import annotations

import copy
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from gradviz.torch_messages import MessageKind

__all__ = ["PROVOKED", "Provoked"]

Provoked = tuple[Callable[[], object], dict[str, Any]]
PROVOKED: dict[MessageKind, list[Provoked]] = {}


def provokes(kind: MessageKind, **fields: Any) -> Callable[[Callable[[], object]], None]:
    """Register a program that provokes a text with these fields."""

    def register(program: Callable[[], object]) -> None:
        PROVOKED.setdefault(kind, []).append((program, fields))

    return register


def leaf() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0], requires_grad=True)


def integers() -> torch.Tensor:
    return torch.tensor([1, 2])


def inferred() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(3)


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 3)


def hooks_on_saved(used: torch.Tensor, argument: str) -> None:
    getattr(used.grad_fn, argument).register_hooks(lambda held: held, lambda held: held)


def spent() -> torch.Tensor:
    used = leaf().exp()
    used.sum().backward()
    return used


NAMED = {"index": 0} if torch.__version__ >= "2.13" else {}  # 2.12 gives no index
for _kind, _program, _fields in (
    (MessageKind.HOOKS_ON_FREED, lambda: hooks_on_saved(spent(), "_raw_saved_result"), {}),
    (MessageKind.HOOKS_ON_NOTHING, lambda: hooks_on_saved(leaf() * 2, "_raw_saved_self"), {}),
    (MessageKind.ROOT_WITHOUT_GRAPH, lambda: torch.ones(3).sum().backward(), {}),
    (MessageKind.RETAIN_GRAD_WITHOUT_GRAPH, lambda: torch.ones(3).retain_grad(), {}),
    (MessageKind.HOOK_WITHOUT_GRAPH, lambda: torch.ones(3).register_hook(print), {}),
    (MessageKind.NOT_A_SCALAR, lambda: leaf().backward(), {}),
    (MessageKind.COMPLEX_ROOT, lambda: (leaf().sum() * 1j).backward(), {"got": "complex64"}),
    (MessageKind.LEAF_VIEW_CHANGED, lambda: leaf().view(3).add_(1), {}),
    (MessageKind.LEAF_CHANGED, lambda: leaf().add_(1), {}),
    (MessageKind.RESIZED, lambda: leaf().resize_(5), {}),
    (MessageKind.INFERENCE_SAVED, lambda: leaf() * inferred(), {}),
    (MessageKind.INFERENCE_CHANGED, lambda: inferred().add_(1), {}),
    (MessageKind.INFERENCE_REQUIRES_GRAD, lambda: inferred().requires_grad_(), {}),
    (MessageKind.VIEW_DETACHED, lambda: leaf().exp().unbind()[0].detach_(), {}),
    (MessageKind.SHARED_MEMORY, lambda: torch.ones(1).expand(3).add_(leaf()), {}),
    (MessageKind.NON_LEAF_OPTIMIZED, lambda: torch.optim.SGD([leaf() * 1], lr=0.1), {}),
    (MessageKind.NON_LEAF_COPIED, lambda: copy.deepcopy(leaf() * 1), {}),
    (MessageKind.NON_LEAF_SENT, lambda: reduce_tensor(leaf() * 2), {}),
    (MessageKind.NON_LEAF_FROZEN, lambda: (leaf() * 2).requires_grad_(False), {}),
    (
        MessageKind.NON_LEAF_HOOKED,
        lambda: (leaf() * 2).register_post_accumulate_grad_hook(print),
        {},
    ),
    (
        MessageKind.PARAMETER_REPLACED,
        lambda: setattr(layer(), "weight", torch.ones(3, 3)),
        {"name": "weight"},
    ),
    (MessageKind.INPUT_WITHOUT_GRAPH, lambda: torch.autograd.grad(leaf().sum(), torch.ones(3)), {}),
    (MessageKind.INPUT_NOT_USED, lambda: torch.autograd.grad(leaf().sum(), leaf()), NAMED),
    (MessageKind.NOT_FLOATING, lambda: torch.tensor([1], requires_grad=True), {}),
    (MessageKind.NOT_FLOATING, lambda: integers().requires_grad_(), {}),
    (MessageKind.NUMPY, lambda: leaf().numpy(), {}),
    (
        MessageKind.GIVEN_ANOTHER,
        lambda: (leaf() * 2).backward(torch.ones(2, 2)),
        {"aspect": "shape", "index": 0, "got": "[2, 2]", "expected": "[3]"},
    ),
    (
        MessageKind.GIVEN_ANOTHER,
        lambda: leaf().sum().backward(torch.ones(1)),
        {"aspect": "shape", "index": 0, "got": "[1]", "expected": "[]"},
    ),
    (
        MessageKind.GIVEN_ANOTHER,
        lambda: (leaf() * 2).backward(torch.ones(3, dtype=torch.complex64)),
        {"aspect": "dtype", "index": 0, "got": "complex64", "expected": "float32"},
    ),
    (
        MessageKind.GIVEN_ANOTHER_DEVICE,
        lambda: (leaf() * 2).backward(torch.ones(3, device="meta")),
        {"index": 0, "got": "meta", "expected": "cpu"},
    ),
    (
        MessageKind.ASSIGNED_ANOTHER_SHAPE,
        lambda: setattr(leaf(), "grad", torch.ones(4)),
        {"got": "[4]", "expected": "[3]"},
    ),
    (
        MessageKind.ASSIGNED_ANOTHER_DTYPE,
        lambda: setattr(leaf(), "grad", torch.ones(3, dtype=torch.float64)),
        {"got": "double", "expected": "Float"},
    ),
    (
        MessageKind.ASSIGNED_ANOTHER_DEVICE,
        lambda: setattr(leaf(), "grad", torch.ones(3, device="meta")),
        {"got": "meta", "expected": "cpu"},
    ),
    (MessageKind.ASSIGNED_NO_TENSOR, lambda: setattr(leaf(), "grad", 0), {"python_type": "int"}),
    (
        MessageKind.NO_TENSOR,
        lambda: leaf().sum().item().backward(),
        {"python_type": "float", "attribute": "backward"},
    ),
    (
        MessageKind.NO_TENSOR,
        lambda: leaf().detach().numpy().requires_grad_(),
        {"python_type": "ndarray", "attribute": "requires_grad_"},
    ),
    (MessageKind.NONE_ATTRIBUTE, lambda: leaf().grad.norm(), {"attribute": "norm"}),
    (
        MessageKind.NONE_OPERAND,
        lambda: 0.1 * leaf().grad,
        {"operator": "*", "left": "float", "right": "NoneType"},
    ),
    (
        MessageKind.NONE_OPERAND,
        lambda: leaf().grad ** 2,
        {"operator": "** or pow()", "left": "NoneType", "right": "int"},
    ),
    (
        MessageKind.NONE_COMPARED,
        lambda: leaf().grad > 0,
        {"operator": ">", "left": "NoneType", "right": "int"},
    ),
    (MessageKind.NONE_NEGATED, lambda: -leaf().grad, {"operator": "unary -"}),
    (MessageKind.NONE_NEGATED, lambda: abs(leaf().grad), {"operator": "abs()"}),
    (MessageKind.NONE_INDEXED, lambda: leaf().grad[0], {}),
    (MessageKind.NONE_ARGUMENT, lambda: torch.stack([leaf().grad]), {}),
    (MessageKind.NONE_ARGUMENT, lambda: torch.ones(3).copy_(leaf().grad), {}),
    (MessageKind.NONE_ARGUMENT, lambda: torch.distributed.all_reduce(leaf().grad), {}),
    (MessageKind.NONE_ITERATED, lambda: list(leaf().grad), {}),
    (MessageKind.NONE_ITERATED, lambda: len(leaf().grad), {}),
    (MessageKind.NUMBER_GIVEN, lambda: leaf().sum().backward(1.0), {"python_type": "float"}),
    (MessageKind.NO_PARAMETERS, lambda: torch.optim.SGD([], lr=0.1), {}),
    (
        MessageKind.NOT_PARAMETERS,
        lambda: torch.optim.SGD(leaf(), lr=0.1),
        {"python_type": "torch.FloatTensor"},
    ),
    (
        MessageKind.NOT_A_PARAMETER,
        lambda: torch.optim.SGD(["w"], lr=0.1),
        {"python_type": "str"},
    ),
    (MessageKind.NO_CLOSURE, lambda: torch.optim.LBFGS([leaf()]).step(), {"name": "LBFGS"}),
    (MessageKind.STEPPED_TWICE, lambda: unscaled(torch.float32, 2, "step"), {}),
    (MessageKind.EMPTY_LIST, lambda: torch.nn.utils.clip_grad_value_([leaf()], 1.0), {}),
    (MessageKind.UNSCALED_TWICE, lambda: unscaled(torch.float32, 2), {}),
    (MessageKind.UNSCALED_HALF, lambda: unscaled(torch.float16, 1), {}),
    (
        MessageKind.NO_DERIVATIVE,
        lambda: torch.igamma(leaf(), torch.ones(3)).sum().backward(),
        {"operation": "igamma", "argument": "input"},
    ),
    (
        MessageKind.NO_DERIVATIVE,
        lambda: torch.special.zeta(leaf(), torch.ones(3)).sum().backward(),
        {"operation": "zeta"},
    ),
    (
        MessageKind.NO_DERIVATIVE_ATEN,
        lambda: torch.heaviside(leaf(), torch.ones(3)).sum().backward(),
        {"operation": "heaviside"},
    ),
    (MessageKind.BATCHED_IN_WORKER, lambda: next(iter(DataLoader([leaf()], num_workers=1))), {}),
    (
        MessageKind.OUT_ARGUMENT,
        lambda: torch.add(leaf(), leaf(), out=torch.empty(3)),
        {"operation": "add"},
    ),
    (MessageKind.NOT_ONE_ELEMENT, lambda: leaf().item(), {"found": 3}),
    (MessageKind.NOT_ONE_NUMBER, lambda: float(leaf()), {}),
    (MessageKind.FUNC_NOT_A_SCALAR, lambda: torch.func.grad(torch.exp)(leaf()), {"found": 1}),
    (
        MessageKind.HESSIAN_NOT_A_SCALAR,
        lambda: torch.autograd.functional.hessian(torch.exp, leaf()),
        {},
    ),
):
    provokes(_kind, **_fields)(_program)


@provokes(MessageKind.FREED)
def _() -> None:
    loss = (leaf() ** 2).sum()
    loss.backward()
    loss.backward()


@provokes(MessageKind.FREED)
def _() -> None:
    loss = checkpoint(torch.sin, leaf(), use_reentrant=False).sum()
    loss.backward()
    loss.backward()


@provokes(MessageKind.CHANGED_IN_PLACE, node="Exp", shape=(3,), found=1, wanted=0)
def _() -> None:
    h = leaf().exp()
    h.add_(1)
    h.sum().backward()


@provokes(MessageKind.CHANGED_IN_PLACE, shape=(3,), found=2, wanted=0)
def _() -> None:
    w = leaf()
    loss = (w**2).sum()
    with torch.no_grad():
        w.add_(1).add_(1)
    loss.backward()


@provokes(MessageKind.CHANGED_IN_PLACE, node="Exp", shape=(), found=1, wanted=0)
def _() -> None:
    h = leaf().sum().exp()
    h.add_(1)
    h.backward()


@provokes(MessageKind.NAN_RETURNED, node="SqrtBackward0", index=0)
def _() -> None:
    with torch.autograd.detect_anomaly():
        (leaf() * -1).sqrt().sum().backward()


@provokes(MessageKind.VIEW_FROM_NO_GRAD)
def _() -> None:
    h = leaf().exp()
    with torch.no_grad():
        view = h.view(3)
    view.add_(1)


@provokes(MessageKind.VIEW_OF_HOOKED_MODULE, node="BackwardHookFunction")
def _() -> None:
    hooked = layer()
    hooked.register_full_backward_hook(lambda *_: None)
    hooked(leaf()).add_(1)


class Viewed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view(3)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


@provokes(MessageKind.VIEW_FROM_FUNCTION, node="Viewed")
def _() -> None:
    Viewed.apply(leaf().exp()).add_(1)


@provokes(MessageKind.BASE_OF_FUNCTION_VIEW, node="Viewed")
def _() -> None:
    h = leaf().exp()
    view = Viewed.apply(h)
    h.mul_(2)
    view.sum()


@provokes(MessageKind.BASE_OF_SEVERAL_VIEWS, node="Unbind")
def _() -> None:
    h = leaf().exp()
    one, *_ = h.unbind()
    h.mul_(2)
    one.sum()


@provokes(MessageKind.ONE_OF_SEVERAL_VIEWS, node="SplitWithSizes")
def _() -> None:
    one, _ = leaf().exp().split([1, 2])
    one.mul_(2)


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, what: str) -> torch.Tensor:
        ctx.what = what
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        wrong = {"shape": grad[:1], "device": grad.to("meta"), "number": 3.0}
        return grad if ctx.what == "count" else (wrong[ctx.what], None)


for _kind, _what, _fields in (
    (MessageKind.RETURNED_ANOTHER_SHAPE, "shape", {"index": 0, "got": "[1]", "expected": "[3]"}),
    (MessageKind.RETURNED_ANOTHER_DEVICE, "device", {"index": 0, "got": "meta", "expected": "cpu"}),
    (MessageKind.RETURNED_ANOTHER_COUNT, "count", {"found": 1, "wanted": 2}),
):
    provokes(_kind, node="WrongBackward", **_fields)(
        lambda what=_what: Wrong.apply(leaf(), what).sum().backward()
    )


@provokes(MessageKind.RETURNED_NO_TENSOR, python_type="float")
def _() -> None:
    Wrong.apply(leaf(), "number").sum().backward()


class Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, is_saved: bool = False) -> torch.Tensor:
        if is_saved:
            ctx.save_for_backward(3)
        return x * 2


@provokes(MessageKind.NO_BACKWARD)
def _() -> None:
    Forward.apply(leaf()).sum().backward()


@provokes(MessageKind.SAVED_NO_TENSOR, index=0, python_type="int")
def _() -> None:
    Forward.apply(leaf(), True)


class Old(torch.autograd.Function):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@provokes(MessageKind.FORWARD_NOT_STATIC)
def _() -> None:
    Old()(leaf())


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


@provokes(MessageKind.DIFFERENTIATED_TWICE)
def _() -> None:
    w = leaf()
    (grad,) = torch.autograd.grad((Once.apply(w) ** 2).sum(), w, create_graph=True)
    grad.sum().backward()


def hooked(hook: Callable[[torch.Tensor], Any]) -> None:
    h = leaf() * 2
    h.register_hook(hook)
    h.sum().backward()


def shorten(grad: torch.Tensor) -> torch.Tensor:
    return grad[:2]


@provokes(MessageKind.HOOK_CHANGED_SHAPE, name="shorten")
def _() -> None:
    hooked(shorten)


@provokes(
    MessageKind.HOOK_CHANGED_TYPE,
    name="<lambda>",
    got="torch.DoubleTensor",
    expected="torch.FloatTensor",
)
def _() -> None:
    hooked(lambda grad: grad.double())


@provokes(MessageKind.HOOK_RETURNED_NO_TENSOR, python_type="float")
def _() -> None:
    hooked(lambda grad: 3.0)


@provokes(MessageKind.MODULE_HOOK_COUNT, found=2, wanted=1)
def _() -> None:
    module = layer()
    module.register_full_backward_hook(lambda module, grads, outs: (grads[0], grads[0]))
    module(leaf()).sum().backward()


@provokes(MessageKind.GRADIENT_LAYOUT, name="Adam", got="sparse")
def _() -> None:
    table = nn.Embedding(3, 2, sparse=True)
    optimizer = torch.optim.Adam(table.parameters())
    table(torch.tensor([1])).sum().backward()
    optimizer.step()


@provokes(MessageKind.GRADIENT_LAYOUT, name="SparseAdam", got="dense")
def _() -> None:
    w = leaf()
    optimizer = torch.optim.SparseAdam([w])
    w.sum().backward()
    optimizer.step()


@provokes(MessageKind.PARAMETER_TWICE)
def _() -> None:
    w = leaf()
    torch.optim.SGD([{"params": [w]}, {"params": [w]}], lr=0.1)


@provokes(MessageKind.SCALER_WITHOUT_GRADIENTS)
def _() -> None:
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))
    scaler.step(torch.optim.SGD([leaf()], lr=0.1))


def unscaled(dtype: torch.dtype, times: int, method: str = "unscale_") -> None:
    w = torch.ones(3, dtype=dtype, requires_grad=True)
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD([w], lr=0.1)
    scaler.scale(w.sum()).backward()
    for _ in range(times):
        getattr(scaler, method)(optimizer)


@provokes(MessageKind.NO_DERIVATIVE, operation="_cdist_backward")
def _() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(torch.cdist(x, torch.randn(5, 4)).sum(), x, create_graph=True)
    grad.pow(2).sum().backward()


_CTC = "_ctc_loss_backward"


@provokes(MessageKind.NO_DERIVATIVE_ATEN, operation=_CTC)
def _() -> None:
    x = torch.randn(5, 2, 4, requires_grad=True)
    loss = nn.functional.ctc_loss(x.log_softmax(2), torch.ones(2, 3).long(), [5, 5], [3, 3])
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    grad.pow(2).sum().backward()


@torch.library.custom_op("gradviz_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@provokes(MessageKind.NO_DERIVATIVE_CUSTOM, library="gradviz_tests", operation="twice")
def _() -> None:
    twice(leaf()).sum().backward()


def other_way(first: Callable[..., Any], then: Callable[..., Any], **options: Any) -> None:
    """A checkpoint that does something else when it is computed again."""
    calls: list[int] = []

    def part(x: torch.Tensor) -> Any:
        calls.append(1)
        return (first if calls == [1] else then)(x)

    checkpoint(part, leaf() * 2, use_reentrant=False, **options).sum().backward()


@provokes(MessageKind.CHECKPOINT_METADATA, expected="[3]", got="[6]")
def _() -> None:
    other_way(torch.exp, lambda x: torch.cat([x, x]).exp())


@provokes(MessageKind.CHECKPOINT_FEWER, found=1, wanted=2)
def _() -> None:
    other_way(lambda x: x.exp().sin(), torch.exp)


@provokes(MessageKind.CHECKPOINT_MORE)
def _() -> None:
    other_way(torch.exp, lambda x: x.exp().sin(), early_stop=False)


@provokes(MessageKind.CHECKPOINT_REENTRANT)
def _() -> None:
    w = leaf()
    torch.autograd.grad(checkpoint(torch.sin, w, use_reentrant=True).sum(), w)


DISTRIBUTED = """
import datetime, os, sys, time
os.environ["TORCH_DISTRIBUTED_DEBUG"] = "DETAIL" if sys.argv[1] == "differs" else "OFF"
import torch, torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

def parallel(model, **options):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return nn.parallel.DistributedDataParallel(model, **options)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)
    def forward(self, x):
        return self.used(x)
class Again(Net):
    def forward(self, x):
        x = checkpoint(self.used, x, use_reentrant=True)
        return checkpoint(self.used, x, use_reentrant=True)

def unused():
    net = parallel(Net())
    for _ in range(2):
        net(torch.ones(1, 2)).sum().backward()

def marked():
    net = parallel(Again(), find_unused_parameters=True)
    net(torch.ones(1, 2, requires_grad=True)).sum().backward()

def two(leave, sizes=(3, 0)):
    child = os.fork()
    store = dist.TCPStore("127.0.0.1", PORT, 2, is_master=child != 0)
    dist.init_process_group("gloo", store=store, rank=int(child == 0), world_size=2,
                            timeout=datetime.timedelta(seconds=2))
    try:
        dist.all_reduce(torch.ones(sizes[child == 0])) if sizes[child == 0] else None
    finally:
        if child == 0:
            time.sleep(0 if leave else 6)
            os._exit(0)

def mixed():
    from torch.distributed.tensor import DTensor
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    DTensor.from_local(torch.ones(2), dist.init_device_mesh("cpu", (1,))) * torch.ones(2)

try:
    {"mixed": mixed, "unused": unused, "marked": marked, "lost": lambda: two(True),
     "late": lambda: two(False), "differs": lambda: two(False, (3, 2))}[sys.argv[1]]()
except RuntimeError as error:
    print(error)
    sys.stdout.flush()
os._exit(0)
"""


def distributed(what: str) -> None:
    """Raise what a program of one or two ranks raised."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    program = DISTRIBUTED.replace("PORT", str(port))
    command = [sys.executable, "-W", "ignore", "-c", program, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    raise RuntimeError(done.stdout.strip())


provokes(MessageKind.SPARSE_ADDED)(lambda: torch.eye(2).to_sparse().add(torch.ones(2, 2)))
provokes(MessageKind.DDP_UNUSED, indices=(2, 3))(lambda: distributed("unused"))
provokes(MessageKind.DDP_MARKED_TWICE, index=1, name="used.bias")(lambda: distributed("marked"))
provokes(MessageKind.MIXED_WITH_DTENSOR, operation="mul")(lambda: distributed("mixed"))
provokes(MessageKind.PEER_LOST)(lambda: distributed("lost"))
provokes(MessageKind.PEER_DIFFERS)(lambda: distributed("differs"))
provokes(MessageKind.PEER_LATE, found=2000)(lambda: distributed("late"))

warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
