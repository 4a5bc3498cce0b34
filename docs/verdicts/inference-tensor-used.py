"""What does "Inference tensors cannot be saved for backward" mean?"""

import torch

import gradviz

weight = torch.tensor([1.0, 2.0], requires_grad=True)
with torch.inference_mode():
    features = torch.tensor([3.0, 4.0])
try:
    loss = (features * weight).sum()
except RuntimeError as error:
    why = gradviz.explain(error, features, weight)
