"""A straight-through estimator: the fix must not end the training of what it passes on."""

import copy

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


def test_an_index_after_a_buffer_is_named_and_not_the_buffer() -> None:
    torch.manual_seed(0)
    enc, head, mean = nn.Linear(3, 4), nn.Linear(4, 1), torch.zeros(4)
    with gradviz.record() as run:
        h = enc(torch.ones(5, 3))
        with torch.no_grad():
            mean.mul_(0.9).add_(h.mean(0), alpha=0.1)
        h = nn.functional.one_hot((h - mean).argmax(1), 4).float()
        head(h).sum().backward()
    told = gradviz.explain(run, enc.weight)
    assert "is cut by argmax" in told.reason


def test_an_index_is_named_before_the_copy_of_a_target() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    with gradviz.record() as run:
        target = copy.deepcopy(model)
        x = torch.ones(5, 3)
        choice = nn.functional.one_hot(model(x).argmax(1), 4).float()
        weight = torch.ones(4, requires_grad=True)
        (choice * weight - target(x).detach()).pow(2).sum().backward()
    told = gradviz.explain(run, model.weight)
    assert "is cut by argmax" in told.reason
    assert "deepcopy()" in told.reason
