# %% weights_in_a_function: a Function calls a module that it has in a closure (after pytorch/pytorch#32091)
# thread: https://github.com/pytorch/pytorch/issues/32091
# expect block.weight: !fine
#   never: not used
#   never: leave it out
import torch
from torch import nn

torch.manual_seed(0)
block, head = nn.Linear(3, 3), nn.Linear(3, 1)


class Solver(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return block(x).tanh()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


x = torch.randn(4, 3, requires_grad=True)
loss = head(Solver.apply(x)).sum()  # here
loss.backward()

# %% weights_handed_to_a_function: the same, with the weight as an input of the Function
# expect weight: healthy
# expect head: healthy
import torch
from torch import nn

torch.manual_seed(0)
weight = torch.randn(3, 3, requires_grad=True)
head = nn.Linear(3, 1)


class Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx, gradient):
        x, w = ctx.saved_tensors
        return gradient @ w.t(), x.t() @ gradient


loss = head(Multiply.apply(torch.randn(4, 3), weight)).sum()
loss.backward()

# %% reentrant_checkpoint_of_data: a checkpointed block whose input is data (after huggingface/transformers#26221)
# thread: https://github.com/huggingface/transformers/issues/26221
# expect block.weight: cut | checkpoint
#   says: checkpoint
#   fix: use_reentrant=False
#   never: not used
#   never: no_grad
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
block, head = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 1)
block.weight = block[0].weight
hidden = checkpoint(block, torch.randn(5, 3), use_reentrant=True)  # here
loss = head(hidden).pow(2).mean()
loss.backward()

# %% non_reentrant_checkpoint_of_data: the same, mended
# expect block: healthy
# expect head: healthy
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
block, head = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 1)
hidden = checkpoint(block, torch.randn(5, 3), use_reentrant=False)
loss = head(hidden).pow(2).mean()
loss.backward()

# %% reentrant_checkpoint_of_a_hidden_state: a checkpoint whose input requires grad, all is well
# expect first: healthy
# expect block: healthy
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
first, block = nn.Linear(3, 4), nn.Linear(4, 4)
loss = checkpoint(block, first(torch.randn(5, 3)), use_reentrant=True).pow(2).mean()
loss.backward()

# %% reentrant_checkpoint_before_backward: backward has not run yet
# expect block.weight: backward not run | cause not recorded
#   never: not used
#   line: any
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
first, block = nn.Linear(3, 4), nn.Linear(4, 4)
loss = checkpoint(block, first(torch.randn(5, 3)), use_reentrant=True).pow(2).mean()
