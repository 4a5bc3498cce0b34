"""Gradient descent, by PyTorch and by hand.

We look for the line a + b * t that is nearest to four points: the one whose mean squared error
is smallest. Each step moves the weights a little against the gradient. PyTorch computes the
gradient in backward(); by hand it is the formula 2/n * X^T (X w - y) in numpy. Both have the same
steps and converge to the optimum from linear algebra: 1.1 + 1.9 * t.
"""

import numpy as np
import torch

X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])  # a column of ones, and t
y = np.array([1.0, 3.0, 5.2, 6.6])
rate = 0.1

w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
w_by_hand = np.zeros(2)
path, path_by_hand = [], []  # rows: a, b, and their gradients

print("step        a        b       da       db   by hand: the same four")
for step in range(401):
    loss = ((torch.from_numpy(X) @ w - torch.from_numpy(y)) ** 2).mean()
    loss.backward()
    gradient_by_hand = 2 / len(y) * X.T @ (X @ w_by_hand - y)
    path.append([*w.tolist(), *w.grad.tolist()])
    path_by_hand.append([*w_by_hand, *gradient_by_hand])
    if step in (0, 1, 2, 10, 100, 400):
        print(f"{step:4}", *(f"{number:8.4f}" for number in path[-1] + path_by_hand[-1]))
    with torch.no_grad():
        w -= rate * w.grad  # the step itself must not be recorded
    w.grad.zero_()
    w_by_hand = w_by_hand - rate * gradient_by_hand

optimum = np.linalg.lstsq(X, y, rcond=None)[0]
print("optimum:", optimum.round(4))  # [1.1 1.9]
print("reached to 1e-6:", np.allclose(path[-1][:2], optimum, rtol=0, atol=1e-6))
print("by hand equal to 1e-6:", np.allclose(path, path_by_hand, rtol=0, atol=1e-6))
