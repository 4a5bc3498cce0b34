"""Two losses that share operations.

The backward pass frees the saved tensors of each operation, here the result that exp() saved. A
second loss that uses the same operations needs them again, and torch raises. Either keep the
saved tensors with retain_graph=True until the last backward, or add the losses first.
"""

import torch

import gradviz

weight = torch.tensor(0.0, requires_grad=True)

with gradviz.record() as run:
    trunk = weight.exp()
    loss, penalty = trunk * 5, trunk**2
    run.mark("two losses")
    loss.backward(retain_graph=True)
    print("loss alone:     ", weight.grad)  # 5 * e^w = 5
    penalty.backward()
    print("with penalty:   ", weight.grad)  # plus 2 * e^2w = 2
    try:
        penalty.backward()
    except RuntimeError as error:
        print("penalty again:  ", str(error).partition(" (")[0])

weight.grad = None
trunk = weight.exp()
(trunk * 5 + trunk**2).backward()
print("one backward:   ", weight.grad)  # the same: 7

titles = (
    "two losses on one trunk",
    "loss.backward(retain_graph=True)",
    "penalty.backward()",
    "penalty.backward() again",
)
frames = [frame for frame in run.frames if frame.title != "forward"]
story = gradviz.Story([gradviz.Frame(t, f.graph) for t, f in zip(titles, frames, strict=True)])
