"""More of PyTorch's exception texts; see `torch_errors`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch_errors import leaf, provokes

from gradviz.torch_messages import MessageKind

__all__: list[str] = []


class Dirty(torch.autograd.Function):
    """Marks a tensor as dirty, and returns another."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2).clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


class Half(torch.autograd.Function):
    """The square, with half of its derivative."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * ctx.saved_tensors[0]


@provokes(MessageKind.LEAF_MOVED)
def moved() -> None:
    w = leaf()
    loss = w.sum()
    w.requires_grad_(False)
    w.mul_(leaf())
    loss.backward()


@provokes(MessageKind.SAVED_DETACHED)
def detached() -> None:
    h = leaf().exp()
    loss = (h * h).sum()
    h.detach_()
    loss.backward()


@provokes(MessageKind.NORM_NOT_FINITE)
def clipped() -> None:
    w = leaf()
    (w * 0).sqrt().sum().backward()
    nn.utils.clip_grad_norm_(w, 1.0, error_if_nonfinite=True)


@provokes(MessageKind.NOT_FINITE_GIVEN)
def location_of_nan() -> None:
    w = _spoiled()
    torch.distributions.Normal(w, 1.0)


@provokes(MessageKind.NOT_FINITE_GIVEN)
def probabilities_of_nan() -> None:
    w = _spoiled()
    torch.multinomial(w, 1)


@provokes(MessageKind.NOT_FINITE_GIVEN)
def singular_values_of_nan() -> None:
    w = _spoiled()
    torch.linalg.svd(w * torch.ones(3, 3))


@provokes(MessageKind.NOT_FINITE_GIVEN)
def deviation_of_nan() -> None:
    w = _spoiled()
    torch.normal(torch.zeros(3), w)


@provokes(MessageKind.NOT_FINITE_GIVEN)
def chances_of_nan() -> None:
    w = _spoiled()
    torch.bernoulli(w)


@provokes(MessageKind.NOT_FINITE_GIVEN)
def rates_of_nan() -> None:
    w = _spoiled()
    torch.poisson(w.detach())


@provokes(MessageKind.NOT_FINITE_GIVEN)
def bins_of_nan() -> None:
    w = _spoiled()
    torch.histc(w.detach())


@provokes(MessageKind.NOT_FINITE_GIVEN)
def count_of_nan() -> None:
    w = _spoiled()
    range(int(w.sum()))


@provokes(MessageKind.NOT_FINITE_GIVEN)
def root_of_nan() -> None:
    w = _spoiled()
    torch.linalg.cholesky(w * torch.eye(3))


def _spoiled() -> torch.Tensor:
    w = leaf()
    (w * 0).sqrt().sum().backward()
    torch.optim.SGD([w]).step()
    return w


@provokes(MessageKind.STATE_OF_ANOTHER)
def loaded() -> None:
    state = torch.optim.SGD([leaf(), leaf()]).state_dict()
    torch.optim.SGD([leaf()]).load_state_dict(state)


@provokes(MessageKind.STATE_OF_ANOTHER)
def loaded_with_groups() -> None:
    state = torch.optim.SGD([{"params": [leaf()]}, {"params": [leaf()]}]).state_dict()
    torch.optim.SGD([leaf()]).load_state_dict(state)


@provokes(MessageKind.TRANSFORMED_REQUIRES_GRAD)
def required() -> None:
    torch.func.grad(lambda x: (x * 1).requires_grad_().sum())(leaf())


@provokes(MessageKind.TRANSFORMED_BACKWARD)
def backward_inside() -> None:
    torch.func.vmap(lambda x: (x * leaf()).sum().backward())(torch.ones(2, 3))


@provokes(MessageKind.VMAP_NUMBER)
def item_inside() -> None:
    torch.func.vmap(lambda x: x * x.sum().item())(torch.ones(2, 3))


@provokes(MessageKind.VMAP_NUMBER)
def condition_inside() -> None:
    torch.func.vmap(lambda x: x if x.sum() > 0 else -x)(torch.ones(2, 3))


@provokes(MessageKind.PHASE, operation="linalg_eig", argument="eigenvectors")
def phase_of_eigenvectors() -> None:
    turned = torch.tensor([[0.0, -1.0], [1.0, 0.0]], requires_grad=True)
    (torch.linalg.eig(turned)[1].real * torch.tensor([1.0, 2.0])).sum().backward()


@provokes(MessageKind.PHASE, operation="svd", argument="singular vectors")
def phase_of_singular_vectors() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, dtype=torch.complex64, requires_grad=True)
    torch.linalg.svd(x)[0].real.sum().backward()


def square() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 2, requires_grad=True)


def sum_of_r(mode: str) -> None:
    torch.linalg.qr(square(), mode=mode)[1].sum().backward()


provokes(MessageKind.DIRTY_NOT_RETURNED)(lambda: Dirty.apply(leaf() * 1))
provokes(MessageKind.GRADCHECK, found=0, index=0)(
    lambda: torch.autograd.gradcheck(Half.apply, leaf().double().detach().requires_grad_())
)
provokes(MessageKind.PYTHON_FUNCTION, operation="apply")(lambda: leaf().apply_(abs))
provokes(MessageKind.PYTHON_FUNCTION, operation="map")(lambda: leaf().map_(leaf(), max))
provokes(MessageKind.DATA_NOT_FLOATING)(lambda: setattr(leaf(), "data", torch.ones(3).long()))
provokes(MessageKind.NEGATIVE_SLOPE)(
    lambda: F.leaky_relu(leaf() * 1, -0.5, inplace=True).sum().backward()
)
provokes(MessageKind.WHOLE_QR, argument="complete")(lambda: sum_of_r("complete"))
provokes(MessageKind.QR_WITHOUT_Q, argument="r")(lambda: sum_of_r("r"))


def scaler_of(used: str) -> None:
    """Use a GradScaler without its scale or its step, or unscale after its step."""
    w, scaler = leaf(), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD([w])
    loss = (w * 2).sum()
    (loss if used == "step" else scaler.scale(loss)).backward()
    if used != "update":
        scaler.step(optimizer)
    if used == "unscale_":
        scaler.unscale_(optimizer)
    scaler.update()


@provokes(MessageKind.STEPPED_TWICE)
def unscaled_after_the_step() -> None:
    scaler_of("unscale_")


@provokes(MessageKind.SCALER_WITHOUT_STEP)
def updated_without_a_step() -> None:
    scaler_of("update")


@provokes(MessageKind.NOT_SCALED, operation="step")
def stepped_without_a_scale() -> None:
    scaler_of("step")


@provokes(MessageKind.VMAP_RANDOM)
def random_under_vmap() -> None:
    torch.vmap(torch.rand_like)(torch.ones(3))


@provokes(MessageKind.FUNC_SEVERAL)
def tuple_of_a_function() -> None:
    torch.func.grad(lambda x: (x.sum(), x))(torch.ones(3))


@provokes(MessageKind.ONE_VALUE)
def batch_of_one() -> None:
    nn.BatchNorm1d(2)(torch.ones(1, 2))


@provokes(MessageKind.CLASSES_ARE_FLOATS)
def classes_are_floats() -> None:
    F.cross_entropy(torch.ones(2, 3), torch.ones(2))


@provokes(MessageKind.INTEGERS_CHANGED)
def target_of_integers() -> None:
    F.binary_cross_entropy_with_logits(torch.ones(2), torch.ones(2).long())


@provokes(MessageKind.NOT_ONE_BOOLEAN)
def loss_class_called_with_a_batch() -> None:
    nn.MSELoss(torch.ones(2), torch.ones(2))


@provokes(MessageKind.NO_PROBABILITIES)
def loss_of_logits_that_are_no_probabilities() -> None:
    F.binary_cross_entropy(torch.ones(2) * 2, torch.ones(2))


@provokes(MessageKind.OTHER_DTYPE)
def input_of_doubles() -> None:
    nn.Linear(2, 1)(torch.ones(1, 2).double())


@provokes(MessageKind.BFLOAT16_NUMPY)
def bfloat16_to_numpy() -> None:
    torch.ones(2).bfloat16().numpy()


@provokes(MessageKind.NO_SUPER)
def module_without_super() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(2, 1)

    Net()


@provokes(MessageKind.TRACED_CONSTANT)
def trace_of_a_parameter_from_outside() -> None:
    w = torch.ones(2, requires_grad=True)
    torch.jit.trace(lambda x: x * w, torch.ones(2))


@provokes(MessageKind.MODULE_HOOK_OF_DATA)
def _() -> None:
    module = nn.Linear(2, 1)
    module.register_full_backward_hook(lambda *_: (torch.zeros(1),))
    module(torch.ones(3, 2)).sum().backward()
