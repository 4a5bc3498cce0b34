# %% penalty_through_cdist: a gradient penalty through cdist
# expect error: no derivative
#   says: cdist
import torch

torch.manual_seed(0)
x = torch.randn(3, 4, requires_grad=True)
anchors = torch.randn(5, 4, requires_grad=True)
distance = torch.cdist(x, anchors).sum()
(slope,) = torch.autograd.grad(distance, x, create_graph=True)
penalty = slope.pow(2).sum()
penalty.backward()  # here

# %% penalty_by_hand: the same without cdist
# expect x: healthy
# expect anchors: healthy
import torch

torch.manual_seed(0)
x = torch.randn(3, 4, requires_grad=True)
anchors = torch.randn(5, 4, requires_grad=True)
distance = (x[:, None] - anchors[None]).pow(2).sum(-1).sqrt().sum()
(slope,) = torch.autograd.grad(distance, x, create_graph=True)
penalty = slope.pow(2).sum()
penalty.backward()

# %% second_order_attention: meta-learning through flash attention (after learnables/learn2learn#429)
# thread: https://github.com/learnables/learn2learn/issues/429
# expect error: no derivative
#   says: attention
import torch
import torch.nn.functional as F

torch.manual_seed(0)
q = torch.randn(1, 2, 8, 16, requires_grad=True)
out = F.scaled_dot_product_attention(q, q, q).pow(2).sum()
(slope,) = torch.autograd.grad(out, q, create_graph=True)
slope.pow(2).sum().backward()  # here

# %% derivative_of_igamma: the first argument of igamma
# expect error: no derivative
#   says: igamma
import torch

a = torch.ones(2, requires_grad=True)
loss = torch.igamma(a, torch.ones(2)).sum()
loss.backward()  # here

# %% derivative_of_igamma_in_x: its second argument, which has a derivative
# expect x: healthy
import torch

x = torch.ones(2, requires_grad=True)
loss = torch.igamma(torch.ones(2), x).sum()
loss.backward()

# %% second_order_embedding_bag: a penalty through embedding_bag
# expect error: no derivative
#   says: embedding_bag
import torch
import torch.nn.functional as F

torch.manual_seed(0)
weight = torch.randn(5, 4, requires_grad=True)
out = F.embedding_bag(torch.tensor([[0, 1]]), weight).pow(2).sum()
(slope,) = torch.autograd.grad(out, weight, create_graph=True)
slope.pow(2).sum().backward()  # here
