"""Why does my gradient grow with every step?

backward() accumulates into .grad; it never replaces it. The gradient of (weights * 3).sum() is
always 3, but .grad becomes 3, 6, 9, because it is not cleared in between.
So every training loop clears the gradient: weights.grad.zero_(), or optimizer.zero_grad().
"""

import torch

import gradviz

weights = torch.ones(2, requires_grad=True)
with gradviz.record() as kept:
    for count in (1, 2, 3):
        loss = (weights * 3).sum()
        loss.backward()
        print(f"backward {count}, not cleared:", weights.grad)  # 3, then 6, then 9

others = torch.ones(2, requires_grad=True)
with gradviz.record() as cleared:
    for count in (1, 2, 3):
        loss = (others * 3).sum()
        loss.backward()
        print(f"backward {count}, cleared:    ", others.grad)  # 3 every time
        others.grad.zero_()

adding = gradviz.Story([frame for frame in kept.frames if frame.kind == "after backward"])
renewing = gradviz.Story([frame for frame in cleared.frames if frame.kind == "after backward"])
captions = "It was None.", "It was 3.", "It was 6.", *["It was cleared."] * 3
story = gradviz.Story(
    [
        gradviz.Frame(f"backward {number % 3 + 1}", frame.graph, said)
        for number, (frame, said) in enumerate(zip((*adding, *renewing), captions, strict=True))
    ]
)
