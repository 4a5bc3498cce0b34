"""Two networks, two losses: which leaves does each backward() reach? (GAN)

The critic learns to recognize fakes, the generator to produce better ones. The critic's loss must
not reach the generator, so it is computed from fake.detach(). The generator's loss passes through
the critic and accumulates a gradient in it too: clear it before the next step.
"""

import torch

import gradviz

generator = torch.tensor(2.0, requires_grad=True)  # a network of one weight
critic = torch.tensor(0.5, requires_grad=True)  # another

with gradviz.record() as run:
    fake = generator * 3
    critic_loss = critic * fake.detach()
    critic_loss.backward()
    print("the critic's turn:    critic", critic.grad, " generator", generator.grad)  # 6, None
    critic.grad = None
    loss = -critic * fake
    loss.backward()
    print("the generator's turn: critic", critic.grad, " generator", generator.grad)  # -6, -1.5

titles = "the critic's turn", "its gradient cleared", "the generator's turn"
frames = [frame for frame in run.frames if frame.title != "forward"]
story = gradviz.Story([gradviz.Frame(t, f.graph) for t, f in zip(titles, frames, strict=True)])
