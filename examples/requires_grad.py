"""What does requires_grad=True do?

It makes x a leaf: a tensor for which you want a gradient. From then on autograd records
every operation that uses x. Each result has the operation that created it in .grad_fn.
x itself is not the result of an operation, so its grad_fn is None; backward was not called yet, so
its .grad is None too. Following grad_fn backwards from any result always ends at a leaf.
"""

import torch

import gradviz

x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

added = x + 2
doubled = x * 2
squared = x * x * 2  # two operations: x * x, and then * 2
loss = squared.mean()

print("x       =", x)  # requires_grad=True, and no grad_fn
print("added   =", added)  # grad_fn=<AddBackward0>
print("doubled =", doubled)  # grad_fn=<MulBackward0>
print("squared =", squared)  # grad_fn=<MulBackward0>: the last operation only
print("loss    =", loss)  # grad_fn=<MeanBackward0>
print("x.grad  =", x.grad)  # None: no backward yet

story = gradviz.Story(
    (
        gradviz.Frame("x + 2", gradviz.trace(added)),
        gradviz.Frame("x * 2", gradviz.trace(doubled)),
        gradviz.Frame("(x * x * 2).mean()", gradviz.trace(loss)),
    )
)
