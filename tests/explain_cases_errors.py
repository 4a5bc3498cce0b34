"""Small programs that raise, each with what the error means; see ``explain_cases.py``."""

from __future__ import annotations

import torch
from explain_cases import case, leaf

import gradviz
from gradviz import Verdict

__all__: list[str] = []


@case(Verdict.NO_GRAPH, "was not recorded", "gradviz.record()")
def nothing_requires_grad():
    loss = torch.ones(3).sum()
    try:
        loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.NO_GRAPH, "cut off by detach() at", "leave out the detach()")
def backward_of_the_detached():
    w = leaf()
    try:
        with gradviz.record() as run:
            loss = (w * 2).sum().detach()  # here
            loss.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NO_GRAPH, "cut off by no_grad at", "outside of torch.no_grad()")
def backward_of_no_grad():
    w = leaf()
    try:
        with gradviz.record() as run:
            with torch.no_grad():
                loss = (w * 2).sum()  # here
            loss.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NO_GRAPH, "no tensor that it was computed from", "w.requires_grad_()")
def nobody_requires_grad_recorded():
    try:
        with gradviz.record() as run:
            loss = torch.ones(3).sum()
            loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NO_GRAPH, "cut off by argmax at", "soft version")
def backward_of_argmax():
    w = leaf()
    try:
        with gradviz.record() as run:
            best = w.argmax().float()  # here
            best.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NO_GRAPH, "it is int64", "floating point")
def backward_of_integers():
    w = torch.arange(3).sum()
    try:
        w.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, w)


@case(Verdict.USED_UP, "an earlier backward pass freed", "retain_graph=True")
def twice():
    w = leaf()
    loss = (w**2).sum()
    loss.backward()
    try:
        loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.USED_UP, "whose saved tensors backward at", "to run it twice")
def twice_recorded():
    w = leaf()
    try:
        with gradviz.record() as run:
            loss = (w**2).sum()
            loss.backward()  # here
            loss.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.USED_UP, "two results share", "(loss_a + loss_b).backward()")
def two_losses_over_one_trunk():
    w = leaf()
    try:
        with gradviz.record() as run:
            trunk = w.exp()
            one, two = (trunk * 2).sum(), (trunk**2).sum()
            one.backward()  # here
            two.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.USED_UP, "an earlier backward pass freed", "hidden.detach()")
def carried_and_not_recorded():
    w, hidden = leaf(), torch.zeros(3)
    try:
        for _ in range(2):
            hidden = torch.tanh(w * hidden + 1)
            loss = (hidden**2).sum()
            loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.USED_UP, "carried over", "hidden = hidden.detach()")
def carried_from_step_to_step():
    w, hidden = leaf(), torch.zeros(3)
    try:
        with gradviz.record() as run:
            for _ in range(2):
                hidden = torch.tanh(w * hidden + 1)  # here
                loss = (hidden**2).sum()
                loss.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.CHANGED_IN_PLACE, "exp", "x = x + 1")
def changed_and_not_recorded():
    w = leaf()
    h = w.exp()
    h.add_(1)
    try:
        h.sum().backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, h)


@case(Verdict.CHANGED_IN_PLACE, "add_ at", "h = h.add(1)")
def changed_in_place():
    w = leaf()
    try:
        with gradviz.record() as run:
            h = w.exp()
            h.add_(1)  # here
            h.sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.CHANGED_IN_PLACE, "setitem_ at", "torch.where")
def written_into():
    w = leaf()
    try:
        with gradviz.record() as run:
            h = w.sigmoid()
            h[0] = 0  # here
            h.sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.CHANGED_IN_PLACE, "the optimizer's step at", "optimizer.step() after")
def step_between_forward_and_backward():
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)
    try:
        with gradviz.record() as run:
            one, two = (w**2).sum(), (w**3).sum()
            one.backward()
            optimizer.step()  # here
            two.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NOT_SCALAR, "starts from y of shape [3]", "y.mean().backward()")
def not_a_scalar():
    w = leaf()
    y = w * 2
    try:
        y.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.NOT_SCALAR, "starts from y of shape [3]", "torch.ones_like(y)")
def not_a_scalar_recorded():
    w = leaf()
    try:
        with gradviz.record() as run:
            y = w * 2
            y.backward()  # here
    except RuntimeError:
        return gradviz.explain(run)[0]


@case(Verdict.LEAF_CHANGED, "a leaf that requires grad", "with torch.no_grad(): ")
def leaf_changed():
    w = leaf()
    try:
        w += 1  # here
    except RuntimeError as error:
        return gradviz.explain(error, w)


@case(Verdict.LEAF_CHANGED, "a view of a leaf", "with torch.no_grad(): ")
def view_of_a_leaf_changed():
    w = leaf()
    try:
        w[0] = 1  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.INFERENCE_USED, "under inference_mode", "x.clone()")
def inference_tensor_saved():
    with torch.inference_mode():
        x = torch.ones(3)
    try:
        leaf() * x  # here
    except RuntimeError as error:
        return gradviz.explain(error, x)


@case(Verdict.NOT_USED, "the gradient of v", "allow_unused=True")
def grad_of_what_was_not_used():
    w, v = leaf(), leaf()
    loss = (w * 2).sum()
    try:
        torch.autograd.grad(loss, [w, v])  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss, w, v)


@case(Verdict.NOT_USED, "the gradient of v (inputs[1])", "allow_unused=True")
def grad_of_what_was_not_used_recorded():
    w, v = leaf(), leaf()
    try:
        with gradviz.record() as run:
            loss = (w * 2).sum()
            torch.autograd.grad(loss, [w, v])  # here
    except RuntimeError as error:
        return gradviz.explain(error, run)


class Wrong(torch.autograd.Function):
    """Doubles, and returns too few gradients, one of the wrong shape, or one elsewhere."""

    @staticmethod
    def forward(ctx, x, what):
        ctx.what = what
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        wrong = {"shape": (grad[:1], None), "device": (grad.to("meta"), None), "count": grad}
        return wrong[ctx.what]


@case(Verdict.WRONG_BACKWARD, "the backward of Wrong returned for input 0", "sum over")
def gradient_of_the_wrong_shape():
    w = leaf()
    y = Wrong.apply(w.exp(), "shape").sum()
    try:
        y.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_BACKWARD, "of device meta, where cpu is needed", "grad.to(input.device)")
def gradient_on_the_wrong_device():
    w = leaf()
    y = Wrong.apply(w.exp(), "device").sum()
    try:
        y.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_BACKWARD, "returned 1 gradients for 2 inputs", "None for an input")
def too_few_gradients():
    w = leaf()
    y = Wrong.apply(w.exp(), "count").sum()
    try:
        y.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.NOT_FLOATING, "integers or booleans", "torch.float32")
def integers_that_require_grad():
    try:
        torch.tensor([1, 2], requires_grad=True)  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_LEAF, "non-leaf tensor", "h.detach()")
def requires_grad_of_a_result():
    h = leaf() * 2
    try:
        h.requires_grad_(False)  # here
    except RuntimeError as error:
        return gradviz.explain(error, h)


@case(Verdict.NUMPY, "numpy cannot record", "x.detach().numpy()")
def numpy_of_what_requires_grad():
    w = leaf()
    try:
        w.numpy()  # here
    except RuntimeError as error:
        return gradviz.explain(error, w)


@case(Verdict.OTHER_ERROR, "must match")
def another_error():
    try:
        leaf() + torch.ones(4)  # here
    except RuntimeError as error:
        return gradviz.explain(error)
