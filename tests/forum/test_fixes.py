"""Fixes that `explain` proposes for programs of ``kinds/``, applied: then nothing is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from asking import questions, wrong

from gradviz import record
from gradviz.capture.tensors.names import Names
from gradviz.diagnosis.answers import Explanations, Verdict
from gradviz.diagnosis.explain import answer
from gradviz.frontends.program import run_script

KNOWN = {each.name: each for each in questions()}
CLIP = "        nn.utils.clip_grad_norm_(model.parameters(), 0.5)"
FIXES = {
    "average_of_a_normed_model": (
        "from torch.nn.utils import weight_norm",
        "from torch.nn.utils.parametrizations import weight_norm",
    ),
    "hidden_of_an_lstm_is_an_attribute": (
        "        lstm_out, self.hidden",
        "        self.hidden = tuple(each.detach() for each in self.hidden)\n"
        "        lstm_out, self.hidden",
    ),
    "log_probs_of_the_last_episode_are_kept": (
        "    policy.rewards = []\n",
        "    policy.rewards = []\n    policy.saved_log_probs.clear()\n",
    ),
    "scale_is_moved_in_the_constructor": (
        "nn.Parameter(torch.ones(size)).to(torch.float64)",
        "nn.Parameter(torch.ones(size, dtype=torch.float64))",
    ),
    "codes_by_torch_normal": ("torch.normal(mean, std)", "mean + std * torch.randn_like(std)"),
    "columns_are_sliced_after_the_network": (
        """        u = self.net(points)
        x, t = points[:, 0:1], points[:, 1:2]""",
        """        x, t = points[:, 0:1], points[:, 1:2]
        u = self.net(torch.cat([x, t], 1))""",
    ),
    "gradient_enhanced_fit_in_a_library": ("retain_graph=True", "create_graph=True"),
    "ensemble_of_detached_states": (
        "torch.optim.Adam([p for m in models for p in m.parameters()]",
        "torch.optim.Adam(params.values()",
    ),
    "image_is_clamped_into_a_new_tensor": (
        "    image = image.detach().clamp(0, 1).requires_grad_(True)",
        "    with torch.no_grad():\n        image.copy_(image.clamp(0, 1))",
    ),
    "prior_is_in_no_optimizer": (
        "model.parameters(), lr=1e-3)\n",
        'model.parameters(), lr=1e-3)\noptimizer.add_param_group({"params": '
        "[prior_mean, prior_log_std]})\n",
    ),
    "guidance_inside_no_grad": (
        "    def guide(self",
        "    @torch.enable_grad()\n    def guide(self",
    ),
    "optimizer_of_ones_own_rebinds": (
        'p = p - group["lr"] * update.sign()',
        'p -= group["lr"] * update.sign()',
    ),
    "states_of_users_in_a_dict": (
        "        h = self.cell",
        "        h = h.detach()\n        h = self.cell",
    ),
    "total_loss_is_differentiated_each_time": (
        "    optimizer.step()\n",
        "    optimizer.step()\n    total_loss = total_loss.detach()\n",
    ),
    "discriminator_is_never_thawed": (
        "    scores = netD",
        "    set_requires_grad(netD, True)\n    scores = netD",
    ),
    "scaled_loss_and_a_plain_step": (
        "    optimizer.step()\n",
        "    scaler.step(optimizer)\n    scaler.update()\n",
    ),
    "checkpoint_is_assigned": (
        "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)\n"
        "model.load_state_dict(saved, assign=True)\n",
        "model.load_state_dict(saved, assign=True)\n"
        "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)\n",
    ),
    "returns_are_made_of_the_values": ("advantages + values", "advantages + values.detach()"),
    "weights_of_a_cage_are_detached": ("        weights = weights.detach()  # here\n", ""),
    "gradients_returned_for_some": (".detach()  # here", ""),
    "prediction_is_made_outside_of_the_closure": ("criterion(pred, y)", "criterion(model(x), y)"),
    "a_list_goes_into_a_reentrant_checkpoint": ("use_reentrant=True", "use_reentrant=False"),
    "names_model_of_a_notebook": (
        "# cell 2 again\n",
        "prob = torch.softmax(xenc @ W, 1)\nloss = -prob[torch.arange(5), ys].log().mean()\n",
    ),
    "round_outside_of_the_stop_gradient": (
        "torch.round((w_hard - w_soft).detach() + w_soft)",
        "(w_hard - w_soft).detach() + w_soft",
    ),
    "fast_weights_are_new_leaves": ("(p - lr * g).detach().requires_grad_()", "p - lr * g"),
    "regulariser_of_detached_weights": ("        weights = weights.detach()  # here\n", ""),
    "sharp_silhouette": ("sigma = sys.float_info.epsilon", "sigma = 0.05"),
    "memory_of_a_transformer": ("self.memory = y ", "self.memory = y.detach() "),
    "language_model_keeps_its_state": (
        "        hidden, state = self.lstm",
        "        state = tuple(each.detach() for each in state)\n        hidden, state = self.lstm",
    ),
    "ema_loss_keeps_the_graph": (
        "        smooth = 0.9",
        "        smooth = smooth.detach()\n        smooth = 0.9",
    ),
    "step_is_not_called": ("optimizer.step\n", "optimizer.step()\n"),
    "clipped_after_the_step": (
        f"        optimizer.step()\n{CLIP}",
        f"{CLIP}\n        optimizer.step()",
    ),
    "temperature_is_a_plain_tensor": (
        "torch.ones(1, requires_grad=True)",
        "nn.Parameter(torch.ones(1))",
    ),
    "dict_of_heads": (
        "{name: nn.Linear(8, size) for name, size in tasks.items()}",
        "nn.ModuleDict({name: nn.Linear(8, size) for name, size in tasks.items()})",
    ),
    "lora_over_two_checkpoints_in_main": ("use_reentrant=True", "use_reentrant=False"),
    "checkpoints_of_a_frozen_llama": ("use_reentrant=True", "use_reentrant=False"),
    "checkpointed_blocks_of_frozen_embeddings": ("use_reentrant=True", "use_reentrant=False"),
    "two_optimizers_one_forgotten": ("    one.step()\n", "    one.step()\n    two.step()\n"),
    "discriminator_sees_attached_fakes": (
        "critic(fake).mean() - ",
        "critic(fake.detach()).mean() - ",
    ),
    "tensor_of_a_list_of_losses": ("torch.tensor(losses)", "torch.stack(losses)"),
    "main_forgets_zero_grad": (
        "        loss.backward()",
        "        optimizer.zero_grad()\n        loss.backward()",
    ),
    "outputs_made_once": (
        "        h = torch.zeros(",
        "        self.outputs = torch.zeros_like(self.outputs)\n        h = torch.zeros(",
    ),
    "two_states_of_an_lstm_cell": (
        "    loss.backward()",
        "    loss.backward()\n    h, c = h.detach(), c.detach()",
    ),
    "replay_memory_is_written": (
        "        context = ",
        "        self.slots = self.slots.detach()\n        context = ",
    ),
    "memory_updated_before_backward": (
        "self.bank.index_copy_(0, index, nn.functional.normalize(mixed, dim=1))",
        "self.bank = self.bank.index_copy(0, index, nn.functional.normalize(mixed, dim=1))",
    ),
    "micro_batches_are_cleared": (
        """        optimizer.zero_grad()  # here
        loss = nn.functional.cross_entropy(model(x), y) / every
        loss.backward()
        if (number + 1) % every == 0:
            optimizer.step()
""",
        """        loss = nn.functional.cross_entropy(model(x), y) / every
        loss.backward()
        if (number + 1) % every == 0:
            optimizer.step()
            optimizer.zero_grad()
""",
    ),
    "scatter_softmax_in_place": (
        "alpha /= total[target] + 1e-9",
        "alpha = alpha / (total[target] + 1e-9)",
    ),
    "logit_scale_by_data": ("self.logit_scale.data.exp()", "self.logit_scale.exp()"),
    "forward_hook_returns_detached": ("output.detach()", "output"),
    "inplace_relu_after_sigmoid": ("nn.ReLU(inplace=True)", "nn.ReLU()"),
    "regulariser_as_a_number": ("scale.item()}", "scale}"),
    "frozen_for_sampling": (
        "    return x\n",
        "    model.requires_grad_(True)\n    return x\n",
    ),
    "values_are_detached_twice": ("values = values.detach()", "values = values"),
    "weights_drawn_by_normal": (
        "torch.normal(self.mean, nn.functional.softplus(self.rho))",
        "torch.distributions.Normal(self.mean, nn.functional.softplus(self.rho)).rsample()",
    ),
    "power_of_a_negative_base": ("(d ** 1.5)", "(d.clamp(min=0.001) ** 1.5)"),
    "discriminator_is_in_eval_without_step": ('if name == "generator":', "if True:"),
    "generator_is_not_cleared": (
        "        loss = logits(critic(generator(",
        "        of_generator.zero_grad()\n        loss = logits(critic(generator(",
    ),
    "generator_in_no_optimizer": (
        "of_generator = torch.optim.Adam(critic.parameters()",
        "of_generator = torch.optim.Adam(generator.parameters()",
    ),
    "actor_samples_without_rsample": ("policy.sample()", "policy.rsample()"),
    "generator_loss_reuses_the_scores": (
        "scores = discriminator(fake.detach())",
        "scores = discriminator(fake)",
    ),
    "losses_of_a_diffusion_under_no_grad": ("    @torch.no_grad()  # here\n", ""),
    "integrated_under_no_grad": ("@torch.no_grad()  # here\n", ""),
    "temperature_as_a_number": ("self.log_alpha.exp().item()", "self.log_alpha.exp()"),
    "clipped_before_backward": (
        """        nn.utils.clip_grad_norm_(model.parameters(), 0.1)  # here
        loss.backward()
""",
        """        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
""",
    ),
    "clipped_by_value_too_early": (
        """        nn.utils.clip_grad_value_(self.model.parameters(), 0.1)  # here
        loss.backward()
""",
        """        loss.backward()
        nn.utils.clip_grad_value_(self.model.parameters(), 0.1)
""",
    ),
    "straight_through_cancels": ("+ soft - soft", "+ soft - soft.detach()"),
    "triplets_of_equal_points": ("clamp(min=0)\n    return", "clamp(min=1e-12)\n    return"),
    "variance_by_relu": ("self.variance(h).relu()", "self.variance(h).relu() + 1e-6"),
    "schedule_by_integers": ("step // steps", "(step + 1) / steps"),
    "second_step_without_an_update": (
        "        scaler.step(optimizer)",
        "        scaler.step(optimizer)\n        scaler.update()",
    ),
    "parameter_is_scaled_in_init": (
        "nn.Parameter(torch.randn(size, rank)) * 0.01",
        "nn.Parameter(torch.randn(size, rank) * 0.01)",
    ),
    "position_as_a_buffer": (
        'self.register_buffer("position", torch.zeros(1, patches, size, requires_grad=True))',
        "self.position = nn.Parameter(torch.zeros(1, patches, size))",
    ),
    "residual_is_added_in_place": ("gate += x", "gate = gate + x"),
    "hidden_kept_by_a_decoder": (
        "        loss.backward()",
        "        loss.backward()\n        model.state = model.state.detach()",
    ),
    "quantised_weights": (
        "    return torch.round(x / scale) * scale",
        "    y = torch.round(x / scale) * scale\n    return x + (y - x).detach()",
    ),
    "reversal_of_strength_zero": ("return -ctx.strength * gradient", "return -gradient"),
    "ctc_of_a_recognizer": ("nn.CTCLoss(blank=0)", "nn.CTCLoss(blank=0, zero_infinity=True)"),
    "scores_of_the_generator_are_detached": ("net_d(fake).detach()  # here", "net_d(fake)"),
    "attention_losses_are_detached": (".detach() * 1000  # here", " * 1000"),
    "ratio_is_detached": ("old_logprobs).detach()  # here", "old_logprobs)"),
    "spectrogram_is_detached_for_the_generator": (
        "self.score(fake_spec.detach(), features.detach())  # here",
        "self.score(fake_spec, features)",
    ),
    "features_recorded_by_a_probe": ("output.detach()", "output"),
    "penalty_of_gradients_over_domains": (
        """parameters(), retain_graph=True))  # here
        mean_loss = total_loss / len(minibatches)
        mean_grad = autograd.grad(mean_loss, self.network.parameters(), retain_graph=True)""",
        """parameters(), create_graph=True))
        mean_loss = total_loss / len(minibatches)
        mean_grad = autograd.grad(mean_loss, self.network.parameters(), create_graph=True)""",
    ),
    "weight_penalty_of_data": ("p.data.abs()", "p.abs()"),
    "functional_call_of_a_state_dict": ("model.state_dict()", "dict(model.named_parameters())"),
    "only_one_of_two_states_is_detached": (
        "        h, c = state",
        "        state = tuple(each.detach() for each in state)\n        h, c = state",
    ),
    "ensemble_of_stacked_copies": (
        """optimizer = torch.optim.Adam(models.parameters(), lr=1e-2)
params, buffers = stack_module_state(models)""",
        """params, buffers = stack_module_state(models)
optimizer = torch.optim.Adam(params.values(), lr=1e-2)""",
    ),
    "state_carried_over_batches": (
        "        for t in range(x.shape[1]):",
        "        h = h.detach()\n        for t in range(x.shape[1]):",
    ),
    "block_is_recomputed_in_backward": (
        "        y = ctx.block(x)",
        "        with torch.enable_grad():\n            y = ctx.block(x)",
    ),
    "cached_parametrization_around_the_loop": (
        """    with parametrize.cached():  # here
        for xs, y in batches:
""",
        """    for xs, y in batches:
        with parametrize.cached():
""",
    ),
    "weights_of_edges_are_private": ("adjacency._values()", "adjacency.values()"),
    "weights_are_assigned_after_the_optimizer": (
        "assign=True)  # here",
        "assign=True)\n        self.optimizer = torch.optim.AdamW(self.model.parameters())",
    ),
    "transformer_samples_the_nearest_pixel": ('"nearest"', '"bilinear"'),
    "terms_in_a_default_argument": (
        "    return sum(terms)",
        "    total = sum(terms)\n    terms.clear()\n    return total",
    ),
    "layers_with_a_norm_are_frozen": (
        "layer.weight.requires_grad = False",
        "layer.parametrizations.weight.requires_grad_(False)",
    ),
    "activations_are_kept_in_half": ("tensor.half()", "tensor.bfloat16()"),
    "entropy_in_a_dict_of_losses": ("entropy.detach()", "entropy"),
    "missing_days_are_skipped_by_nansum": (
        "self.weights * series",
        "self.weights * torch.nan_to_num(series)",
    ),
    "loss_is_wrapped_in_a_variable": ("Variable(loss, requires_grad=True)", "loss"),
    "codes_are_looked_up_under_no_grad": (
        "            emb = self.emb",
        "        emb = self.emb",
    ),
    "exemplars_are_trained_through_their_data": ("mnemonics.data", "mnemonics"),
    "membrane_potential_lives_on_in_the_layer": (
        "    loss.backward()\n",
        "    loss.backward()\n    for self in (net.lif1, net.lif2):\n"
        "        self.mem = self.mem.detach()\n",
    ),
    "painter_is_judged_before_the_critic_moves": (
        "    opt_G.zero_grad()\n",
        "    G_loss = torch.mean(torch.log(1.0 - D(G_paintings)))\n    opt_G.zero_grad()\n",
    ),
    "codebook_loss_uses_the_straight_through_output": (
        "F.mse_loss(z_q, z_e.detach())",
        "F.mse_loss(self.vq(z_e)[1], z_e.detach())",
    ),
    "kernel_of_the_arc_head_stays_the_same": (
        "head = learner.head\n",
        'head = learner.head\nlearner.optimizer.add_param_group({"params": [head.kernel]})\n',
    ),
    "unet_is_clipped_while_scaled": (
        "        nn.utils.clip",
        "        grad_scaler.unscale_(optimizer)\n        nn.utils.clip",
    ),
    "exponential_of_the_branch_not_taken": ("torch.exp(x)", "torch.exp(x.clamp(max=0))"),
    "fast_weights_are_cloned_from_the_state": (
        "in self.state_dict().items()",
        "in dict(self.named_parameters()).items()",
    ),
    "adapters_behind_a_reentrant_checkpoint": ("use_reentrant=True", "use_reentrant=False"),
    "style_features_keep_their_graph": (
        "targ_styles = [o.features ",
        "targ_styles = [o.features.detach() ",
    ),
    "missing_labels_are_masked_after_the_loss": (
        """    elementwise = criterion(prediction, target)  # here
    return elementwise[mask].mean()  # here""",
        "    return criterion(prediction[mask], target[mask]).mean()",
    ),
    "interpolates_do_not_require_grad": (
        "    score = critic(x_hat)",
        "    x_hat.requires_grad_()\n    score = critic(x_hat)",
    ),
    "two_tasks_two_steps": (
        """        for loss in losses_of(model(batch["x"]), batch):
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
            optimizer.step()  # here
""",
        """        optimizer.zero_grad()
        for loss in losses_of(model(batch["x"]), batch):
            loss.backward(retain_graph=True)
        optimizer.step()
""",
    ),
    "zero_grad_in_a_warmed_up_loop": (
        "    optimizer.zero_grad()  # here\n    optimizer.step()\n",
        "    optimizer.step()\n    optimizer.zero_grad()\n",
    ),
    "frozen_by_name_in_the_middle": (
        "            param.requires_grad = False  # here\n",
        "            param.requires_grad = False\n            param.grad = None\n",
    ),
    "module_frozen_by_an_attribute": ("requires_grad = False", "requires_grad_(False)"),
    "step_in_the_wrong_loop": (
        """        optimizer.zero_grad()  # here
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
    optimizer.step()
""",
        """        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    ),
    "clipping_before_unscaling_in_a_trainer": (
        "        nn.utils.clip_grad_norm_",
        "        self.scaler.unscale_(self.optimizer)\n        nn.utils.clip_grad_norm_",
    ),
    "second_optimizer_never_steps": (
        """        self.optimizers["dense"].step()
""",
        """        self.optimizers["dense"].step()
        self.optimizers["sparse"].step()
""",
    ),
    "cosine_to_a_head_of_zeros": (
        """        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
""",
        "",
    ),
    "gradients_of_the_attack_are_trained_too": (
        """        loss.backward()
        optimizer.step()
""",
        """        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    ),
    "mixer_with_two_images": ("batch = 2", "batch = 64"),
    "optimizer_is_restored_from_a_copy": (
        """        self.kept = copy.deepcopy(self.optimizer), copy.deepcopy(self.model.state_dict())

    def restore(self):
        self.optimizer, state = self.kept
""",
        """        saved = self.optimizer.state_dict()
        self.kept = copy.deepcopy(saved), copy.deepcopy(self.model.state_dict())

    def restore(self):
        saved, state = self.kept
        self.optimizer.load_state_dict(saved)
""",
    ),
    "scaled_loss_is_thrown_away": (
        "            loss.backward()  # here",
        "            scaler.scale(loss).backward()",
    ),
    "parameters_are_used_up_before_clipping": (
        "self.params = model.parameters()",
        "self.params = list(model.parameters())",
    ),
}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(name, [FIXES[name]], tmp_path, monkeypatch)


def apply(
    name: str,
    changes: Sequence[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Make the changes in a program: then nothing is wrong."""
    monkeypatch.chdir(tmp_path)
    question = KNOWN[name]
    assert not wrong(question, tmp_path)
    code = question.code
    for old, new in changes:
        assert code.count(old) == 1
        code = code.replace(old, new)
    program = tmp_path / question.file
    program.write_text(code, encoding="utf-8")
    recording = record()
    random.seed(0)
    torch.manual_seed(0)
    done = run_script(str(program), within=recording)
    assert done.error is None
    told = answer([recording], Names.of_namespace(done.namespace), None)
    assert isinstance(told, Explanations)
    # A program without an optimizer clears nothing.
    kept = Verdict.FINE if "optim" in question.code else Verdict.ACCUMULATED
    assert [str(each) for each in told.wrong if each.verdict is not kept] == []
