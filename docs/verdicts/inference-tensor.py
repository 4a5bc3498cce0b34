"""Why can a tensor from `inference_mode` not be trained?"""

import torch

import gradviz

with torch.inference_mode():
    features = torch.tensor([1.0, 2.0, 3.0])

why = gradviz.explain(features)
