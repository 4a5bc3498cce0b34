"""What does "returned nan values in its 0th output" mean?"""

import warnings

import torch

import gradviz

warnings.filterwarnings("ignore", message="Anomaly")
w = torch.tensor([-1.0, 4.0], requires_grad=True)
loss = torch.sqrt(w * 2).sum()
try:
    with torch.autograd.detect_anomaly():
        loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, loss)
