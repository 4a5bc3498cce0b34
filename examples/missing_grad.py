"""Why is .grad None?

backward() accumulates gradients in leaves only, not in the results of operations.
torch.ones(3, requires_grad=True) * 0.1 is such a result: the leaf is the tensor of ones, which has
no name. So is .to(...), if it changes something. Therefore create the values first and call
requires_grad_() last; or call retain_grad() on a non-leaf tensor.
"""

import warnings

import torch

warnings.simplefilter("ignore")  # torch warns when the .grad of a non-leaf is read

scaled = torch.ones(3, requires_grad=True) * 0.1  # not a leaf
moved = torch.ones(3, requires_grad=True).to(torch.float64)  # not a leaf
kept = torch.ones(3, requires_grad=True) * 0.1  # not a leaf, but ...
kept.retain_grad()  # ... it keeps its gradient
right = (torch.ones(3) * 0.1).requires_grad_()  # a leaf

loss = (5 * (scaled + moved + kept + right)).sum()
loss.backward()

print("scaled: leaf", scaled.is_leaf, "grad", scaled.grad)  # False, None
print("moved:  leaf", moved.is_leaf, "grad", moved.grad)  # False, None
print("kept:   leaf", kept.is_leaf, "grad", kept.grad)  # False, [5, 5, 5]
print("right:  leaf", right.is_leaf, "grad", right.grad)  # True, [5, 5, 5]
