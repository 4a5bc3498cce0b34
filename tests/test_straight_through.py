"""A straight-through estimator: the fix must not end the training of what it passes on."""

import torch
from torch import nn
from torch.nn import functional

import gradviz


def train(with_own_loss: bool) -> tuple[gradviz.Recording, nn.Module]:
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": nn.Linear(3, 2), "codebook": nn.Embedding(4, 2)})
    with gradviz.record(model) as run:
        z = model["encoder"](torch.randn(5, 3))
        q = model["codebook"](torch.cdist(z, model["codebook"].weight).argmin(1))
        out = z + (q - z).detach()
        loss = out.pow(2).mean()
        if with_own_loss:
            loss = loss + torch.nn.functional.mse_loss(q, z.detach())
        loss.backward()
    return run, model


def test_the_fix_is_a_loss_for_the_codebook() -> None:
    run, model = train(with_own_loss=False)
    answer = gradviz.explain(model["codebook"].weight, run)
    assert "leave out" not in answer.fix
    assert "torch.nn.functional.mse_loss(q, z.detach())" in answer.fix


def test_the_fixed_program_trains_both() -> None:
    run, _ = train(with_own_loss=True)
    assert {each.verdict for each in gradviz.explain(run)} == {gradviz.Verdict.FINE}


def test_a_plain_detach_is_still_to_be_left_out() -> None:
    w = torch.ones(2, requires_grad=True)
    v = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = (v + (w * 2).detach()).sum() + functional.relu(v).sum()
        loss.backward()
    assert "leave out the detach()" in gradviz.explain(w, run).fix
