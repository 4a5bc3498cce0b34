"""torchvision/utils.py modify grad_fn of the tensor, throw exception "Output X of UnbindBackward …

https://github.com/pytorch/pytorch/issues/48149
"""

# ask: error
# verdict: view changed in place

from torch import nn

kernels = nn.Conv2d(3, 4, 3).weight.clone()
for image in kernels:
    image.sub_(image.min())  # here
