"""What gradviz takes for granted about torch, a test each: a new torch that breaks one is named."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import Node

from gradviz.capture import trace
from gradviz.capture.autograd import engine
from gradviz.graph import Buffers, NodeKind


def leaf(*shape: int) -> torch.Tensor:
    return torch.rand(shape, requires_grad=True)


def test_a_missing_gradient_looks_the_same_whatever_its_cause():
    x = leaf(2)
    with torch.no_grad():
        hidden = x * 1
    for other in (torch.ones(2), x.detach(), hidden, x.data, torch.tensor(x.tolist())):
        assert (x + other).grad_fn.next_functions[1] == (None, 0)


def test_a_product_with_itself_has_two_edges_to_one_node():
    x = leaf(2)
    (first, _), (second, _) = (x * x).grad_fn.next_functions
    assert first is second


def test_outputs_of_one_node_are_told_apart_by_number():
    a, b = leaf(4).split(2)
    assert (a + b).grad_fn.next_functions == ((a.grad_fn, 0), (a.grad_fn, 1))
    assert a.grad_fn is b.grad_fn


def test_an_accumulate_grad_node_knows_its_leaf():
    x = leaf(2)
    ((node, _),) = x.exp().grad_fn.next_functions
    assert type(node).__name__ == "AccumulateGrad"
    assert node.variable is x
    assert node._sequence_nr() == 2**64 - 1
    assert node.next_functions == ()


def test_the_metadata_of_a_node_tells_shape_dtype_and_device():
    first, _ = leaf(4, 3).split(2)
    made = first.grad_fn._input_metadata
    assert [(tuple(m.shape), m.dtype, str(m.device)) for m in made] == [
        ((2, 3), torch.float32, "cpu")
    ] * 2


def test_a_node_is_numbered_after_its_inputs():
    x = leaf(2)
    y = x * 2
    assert (y + x).grad_fn._sequence_nr() > y.grad_fn._sequence_nr()


def test_a_node_has_a_dictionary_for_others_to_use():
    y = leaf(2) * 2
    y.grad_fn.metadata["mine"] = 1
    assert y.grad_fn.metadata["mine"] == 1


def test_raw_saved_tensors_are_there_before_and_gone_after_the_buffers_are_freed():
    y = leaf(2).exp()
    assert torch.equal(y.grad_fn._raw_saved_result.data, y)
    y.sum().backward()
    assert y.grad_fn._raw_saved_result.data is None


def test_raw_saved_inputs_are_the_very_tensors():
    x, constant = leaf(2), torch.ones(2)
    assert (x * constant).grad_fn._raw_saved_other.data is constant


def test_a_custom_function_raises_when_its_freed_tensors_are_read():
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    y = Same.apply(leaf(2))
    assert y.grad_fn._raw_saved_tensors == ()
    assert type(y.grad_fn)._forward_cls is Same
    y.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        _ = y.grad_fn._raw_saved_tensors


def test_plain_arguments_have_no_raw_twin():
    node = (leaf(2) ** 2).grad_fn
    assert node._saved_exponent == 2
    assert not hasattr(node, "_raw_saved_exponent")


def test_negative_dimensions_arrive_as_unsigned_numbers():
    assert leaf(2).softmax(-1).grad_fn._saved_dim == 2**64 - 1


def test_a_graph_can_be_walked_after_its_buffers_are_freed():
    loss = leaf(2).exp().sum()
    loss.backward()
    exp = loss.grad_fn.next_functions[0][0]
    assert isinstance(exp, Node)
    assert exp.next_functions[0][0].variable is not None


def test_a_chain_whose_nodes_were_looked_at_overflows_the_stack_when_it_is_dropped():
    program = """
import threading, torch
def work():
    y = torch.ones(1, requires_grad=True)
    for _ in range(20_000):
        y = y * 1.0
    node = y.grad_fn
    while node is not None:
        node = node.next_functions[0][0] if node.next_functions else None
    print("built", flush=True)
    del y
    print("dropped", flush=True)
threading.stack_size(512 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    stay = engine.OBJECTS_STAY  # from torch 2.13 on
    assert (done.returncode < 0, done.stdout) == (stay, "built\n" if stay else "built\ndropped\n")


MATRIX, BATCH = torch.rand(2, 2), torch.rand(2, 2, 2)
CHOICES = torch.tensor([0, 1])
OPERATIONS = {
    "add": lambda a, b, c: a + b,
    "mul": lambda a, b, c: a * b,
    "div": lambda a, b, c: a / b,
    "pow": lambda a, b, c: a**b,
    "mm": lambda a, b, c: a @ b,
    "mv": lambda a, b, c: a @ b[0],
    "dot": lambda a, b, c: a[0].dot(b[0]),
    "bmm": lambda a, b, c: torch.bmm(a.expand(2, 2, 2), b.expand(2, 2, 2)),
    "addmm": torch.addmm,
    "addmv": lambda a, b, c: torch.addmv(a[0], b, c[0]),
    "addr": lambda a, b, c: torch.addr(a, b[0], c[0]),
    "addcmul": torch.addcmul,
    "addcdiv": torch.addcdiv,
    "baddbmm": lambda a, b, c: torch.baddbmm(
        a.expand(2, 2, 2), b.expand(2, 2, 2), c.expand(2, 2, 2)
    ),
    "addbmm": lambda a, b, c: torch.addbmm(a, b.expand(2, 2, 2), c.expand(2, 2, 2)),
    "lerp": torch.lerp,
    "where": lambda a, b, c: torch.where(MATRIX > 0.5, a, b),
    "maximum": lambda a, b, c: torch.maximum(a, b),
    "atan2": lambda a, b, c: torch.atan2(a, b),
    "linear": F.linear,
    "layer_norm": lambda a, b, c: F.layer_norm(a, (2,), b[0], c[0]),
    "batch_norm": lambda a, b, c: F.batch_norm(a, None, None, b[0], c[0], True),
    "group_norm": lambda a, b, c: F.group_norm(a, 1, b[0], c[0]),
    "conv": lambda a, b, c: F.conv1d(a.expand(1, 2, 2), b.expand(2, 2, 2), c[0]),
    "mse": lambda a, b, c: F.mse_loss(a, b),
    "smooth_l1": lambda a, b, c: F.smooth_l1_loss(a, b),
    "huber": lambda a, b, c: F.huber_loss(a, b),
    "bce": lambda a, b, c: F.binary_cross_entropy(a, b),
    "bce_logits": lambda a, b, c: F.binary_cross_entropy_with_logits(a, b),
    "kl": lambda a, b, c: F.kl_div(a, b, reduction="sum"),
    "cross_entropy": lambda a, b, c: F.cross_entropy(a + b, CHOICES),
    "attention": lambda a, b, c: F.scaled_dot_product_attention(
        *(t.expand(1, 1, 2, 2) for t in (a, b, c))
    ),
    "prelu": lambda a, b, c: F.prelu(a, b[0]),
    "cdist": lambda a, b, c: torch.cdist(a, b),
    "stack": lambda a, b, c: torch.stack([a, b, c]).std(0),
    "index": lambda a, b, c: a[CHOICES] + b.gather(0, CHOICES[None]),
    "einsum": lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c),
    "bilinear": lambda a, b, c: F.bilinear(a, b, c.expand(1, 2, 2)),
    "norm": lambda a, b, c: (a - b).norm() + c.norm(dim=1).sum(),
    "solve": lambda a, b, c: torch.linalg.solve(a + 3 * torch.eye(2), b),
    "embedding": lambda a, b, c: F.embedding(CHOICES, a) * b,
    "lstm": lambda a, b, c: torch.nn.LSTMCell(2, 2)(a, (b, c))[0],
}


@pytest.mark.parametrize("tracked", ["abc", "a", "b", "c", "ab", "ac", "bc"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_seems_freed_before_backward_and_none_seems_held_after(name, tracked):
    inputs = [torch.rand(2, 2, requires_grad=letter in tracked) for letter in "abc"]
    result = OPERATIONS[name](*inputs)
    if result.grad_fn is not None:
        before = trace(result, names={})
        result.sum().backward()
        after = trace(result, names={})
        assert Buffers.FREED not in buffers(before)
        assert Buffers.HELD not in buffers(after)
        assert Buffers.UNKNOWN not in buffers(before) + buffers(after)
        check_cut_inputs(before, inputs)


def buffers(graph):
    return [data["buffers"] for _, data in graph.nodes(data=True) if "buffers" in data]


def check_cut_inputs(graph, inputs):
    """A tensor drawn as an input without gradient must be one that has none."""
    for _, data in graph.nodes(data=True):
        if data["kind"] is NodeKind.UNTRACKED and "value" in data:
            values = data["value"].values
            tracked = [x.flatten().tolist() for x in inputs if x.requires_grad]
            assert list(values) not in tracked


@pytest.mark.parametrize("identity", [engine.identity_of_node, engine._kept_identity])
def test_a_node_has_one_identity_each_time_it_is_read(identity: Callable[[Node], int]) -> None:
    h = leaf(2)
    for _ in range(50):
        h = (h * 2).exp()
    read = [[identity(node) for node in chain(h)] for _ in range(2)]
    assert read[0] == read[1] and len(set(read[0])) == 100


def chain(tensor: torch.Tensor) -> Iterator[Node]:
    """The operations of a chain; no Python object of them is kept."""
    node = tensor.grad_fn
    while node is not None and node.next_functions:
        yield node
        node = node.next_functions[0][0]
