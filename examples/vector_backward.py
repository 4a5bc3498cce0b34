"""backward() on a vector needs a vector, and accumulates into .grad.

loss.backward() works on its own only when loss is one number. For a result of three numbers
you pass a vector v of three weights: x.grad then receives v times the slope of each element.
A second backward on the same x does not replace x.grad: it accumulates into it.
Here the mean contributes 1/3 to each element, and x * x * 2 contributes 4 * x * v.
"""

import torch

import gradviz

x = torch.tensor([-2.2168, 0.18977, 1.4724], requires_grad=True)
v = torch.tensor([0.1, 1.0, 0.001])

loss = x.mean()
y = x * x * 2

loss.backward()
first = gradviz.Frame("after loss.backward()", gradviz.trace(loss, y))
print("x                     =", x.detach())
print("from the mean, x.grad =", x.grad)  # [0.3333, 0.3333, 0.3333]

y.backward(v)
second = gradviz.Frame("after y.backward(v)", gradviz.trace(loss, y))
print("4 * x * v             =", 4 * x.detach() * v)  # [-0.8867, 0.7591, 0.0059]
print("both added, x.grad    =", x.grad)  # [-0.5534, 1.0924, 0.3392]

story = gradviz.Story((first, second))
