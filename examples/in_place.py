"""In-place changes, and the version counter that detects them.

Every tensor counts how often it was changed in place: its version. exp() saves its own result
for backward, so changing that result later makes backward wrong: torch compares the versions
and raises. x * 2 does not save its result, so the same change is allowed there.
"""

import torch

import gradviz

x = torch.tensor([0.0, 1.0], requires_grad=True)

with gradviz.record() as allowed:
    doubled = x * 2
    doubled.add_(1)
    loss = doubled.sum()
    loss.backward()
print("doubled: version", doubled._version, " backward gives", x.grad)  # [2, 2]

with gradviz.record() as refused:
    changed = x.exp()
    changed.add_(1)  # exp() saved this result for backward
    loss = changed.sum()
    try:
        loss.backward()
    except RuntimeError as error:
        print("changed: version", changed._version, " backward raises:", str(error).split(". ")[0])

x.grad = None
repaired = x.exp() + 1  # a new tensor instead of a change in place
repaired.sum().backward()
print("repaired: version", repaired._version, "backward gives", x.grad)  # e^x: [1.0000, 2.7183]

story = gradviz.Story(
    (
        gradviz.Frame("x * 2, then add_", allowed.frames[-1].graph, "Allowed: nothing was saved."),
        gradviz.Frame("x.exp(), then add_", refused.frames[-1].graph),
    )
)
