"""Why is .grad None?

backward() leaves a gradient in leaves only: tensors that you made, not ones you computed.
torch.ones(3, requires_grad=True) * 0.1 is computed: the leaf is the ones, which has no name.
.to(...) computes too, whenever it changes something. So prepare the values first and call
requires_grad_() last; or, for a tensor in the middle, ask it to keep its gradient.
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
