# %% second_pass_raises: the second pass raises after it has reached the head
# expect head.weight: !stale
#   never: added nothing
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(2, 3), nn.Linear(3, 1)
features = body(torch.randn(4, 2)).tanh()
try:
    for scale in (1.0, 3.0):
        head.zero_grad()
        loss = (head(features) * scale).pow(2).sum()
        loss.backward()
except RuntimeError as error:
    print(error)

# %% hook_raises_in_backward: a hook raises, the bias before it has its gradient
# expect bias: !stale
#   never: added nothing
#   line: any
import torch

weight = torch.ones(3, requires_grad=True)
bias = torch.zeros(3, requires_grad=True)


def stop(gradient):
    raise ValueError("too large")


scaled = weight * 2
scaled.register_hook(stop)
loss = (scaled + bias).sum()
try:
    loss.backward()
except ValueError as error:
    print(error)

# %% raises_at_once: the pass raises before it reaches anything
# expect weight: !fine
#   line: any
#   never: has a gradient
import torch

weight = torch.ones(3, requires_grad=True)
loss = (weight * 2).exp()
try:
    loss.backward()
except RuntimeError as error:
    print(error)

# %% error_caught_then_good: an error is caught, the next pass is good
# expect weight: healthy
import torch

weight = torch.ones(3, requires_grad=True)
loss = (weight * 2).exp()
try:
    loss.backward()
except RuntimeError:
    loss.sum().backward()

# %% keyboard_stop_between: training stops between two passes
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 1)
try:
    for step in range(3):
        model.zero_grad()
        loss = model(torch.randn(4, 2)).pow(2).mean()
        loss.backward()
        if step == 1:
            raise StopIteration
except StopIteration:
    pass
