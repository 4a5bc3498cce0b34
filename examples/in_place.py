"""In-place changes, and the version that gives them away.

Every tensor counts how often it was changed in place: its version. exp() saves its own result
for backward, so changing that result later makes backward wrong: torch compares the versions
and refuses. x * 2 saves nothing of its result, so the same change there does no harm.
"""

import torch

x = torch.tensor([0.0, 1.0], requires_grad=True)

doubled = x * 2
print("doubled: version", doubled._version)  # 0
doubled.add_(1)
print("doubled: version", doubled._version)  # 1
doubled.sum().backward()
print("doubled: backward gives", x.grad)  # [2, 2]

x.grad = None
repaired = x.exp() + 1  # a new tensor instead of a change in place
repaired.sum().backward()
print("repaired: backward gives", x.grad)  # e^x: [1.0000, 2.7183]

x.grad = None
changed = x.exp()
changed.add_(1)  # exp() needed what was here
print("changed: version", changed._version)  # 1
loss = changed.sum()
try:
    loss.backward()
except RuntimeError as error:
    print("changed: backward refuses:", str(error).partition(". ")[0])
