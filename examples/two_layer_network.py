"""A two-layer network learns XOR.

One layer cannot learn "one or the other, but not both"; two with a tanh between them can.
Each weight and bias is a leaf. One backward() computes all four gradients, the optimizer then
changes each leaf against its gradient, and zero_grad() clears them for the next step.
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
targets = torch.tensor([[0.0], [1.0], [1.0], [0.0]])

model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

for step in range(101):
    loss = ((model(inputs) - targets) ** 2).mean()
    if step % 25 == 0:
        print(f"step {step:3}  loss {loss.item():.4f}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

norms = {name: leaf.grad.norm().item() for name, leaf in model.named_parameters()}
for name, norm in norms.items():
    print(f"gradient norm of {name:8} {norm:.4f}")
print("outputs", model(inputs).detach().flatten())  # the targets are 0, 1, 1, 0
