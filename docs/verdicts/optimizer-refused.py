"""What does "optimizer got an empty parameter list" mean?"""

import torch

import gradviz


class Net(torch.nn.Module):
    """Hides its layers in a list."""

    def __init__(self):
        super().__init__()
        self.layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)]


net = Net()
try:
    torch.optim.SGD(net.parameters(), lr=0.1)
except ValueError as error:
    why = gradviz.explain(error, net.layers[0].weight)
