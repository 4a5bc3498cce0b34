"""More fixes that `explain` proposes for programs of ``kinds/w_*`` to ``y_*``, applied."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_fixes import apply

_LISTED = "list(filter(lambda p: p.requires_grad, model.parameters()))"
_REGISTERED = "nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(n_tasks)])"
FIXES = {
    "no_grad_two_frames_up": [("@torch.no_grad()  # here\n", "")],
    "with_no_grad_two_frames_up": [("with torch.no_grad():  # here", "if True:")],
    "sign_step_of_a_clipped_image": [
        ("0, 1)  # here", "0, 1)\n    adv = adv.detach().requires_grad_()")
    ],
    "hook_returns_constant": [("return torch.full((16, 8), 0.5)  # here", "return None")],
    "hook_clears_grad": [("    p.grad = None\n", "    pass\n")],
    "new_optimizer_each_step": [
        (
            "for epoch in range(4):\n"
            "    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # here\n",
            "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\nfor epoch in range(4):\n",
        )
    ],
    "stale_after_a_detach_in_the_second_phase": [
        ("    loss.backward()", "    optimizer.zero_grad()\n    loss.backward()")
    ],
    "twice_for_two_losses": [
        (
            "for name, each in losses.items():\n    each.backward()\n",
            "sum(losses.values()).backward()\n",
        )
    ],
    "settings_of_a_dataclass_are_copied": [
        ("**dataclasses.asdict(spring)", "stiffness=spring.stiffness, damping=spring.damping")
    ],
    "relation_embedding_is_cached_by_a_decorator": [
        ("    @functools.lru_cache(maxsize=None)\n", "")
    ],
    "arguments_are_made_tensors_by_a_decorator": [
        ("[torch.tensor(a, dtype=torch.float32) for a in args]", "args")
    ],
    "batches_of_a_generator_without_gradients": [("    @torch.no_grad()  # here\n", "")],
    "evaluation_leaves_gradients_switched_off": [
        ("    finally:\n", "    finally:\n        torch.set_grad_enabled(True)\n")
    ],
    "property_setter_makes_a_new_parameter": [
        (
            "optimizer = torch.optim.Adam(matcher.parameters(), lr=1e-2)\n"
            "matcher.temperature = 0.07\n",
            "matcher.temperature = 0.07\n"
            "optimizer = torch.optim.Adam(matcher.parameters(), lr=1e-2)\n",
        )
    ],
    "center_of_the_teacher_is_a_buffer_with_a_graph": [
        (
            "        target = F.softmax",
            "        self.center = self.center.detach()\n        target = F.softmax",
        )
    ],
    "gradient_of_an_orthogonal_weight_is_logged": [
        ("rec.weight.grad", "rec.parametrizations.weight.original.grad")
    ],
    "trained_mask_is_traced_as_a_constant": [
        ("def masked(x)", "def masked(x, mask)"),
        ("(masked, torch.randn(4, 5))", "(masked, (torch.randn(4, 5), mask))"),
        ("fast(x)", "fast(x, mask)"),
    ],
    "adjacency_of_learned_weights_is_built_once": [
        (
            "        self.adj = torch.sparse_coo_tensor(edges, gate, (n_nodes, n_nodes))  # here\n",
            "        self.edges, self.size = edges, (n_nodes, n_nodes)\n",
        ),
        (
            "        return torch.sparse.mm(self.adj",
            "        gate = torch.sigmoid(self.edge_weight)\n"
            "        self.adj = torch.sparse_coo_tensor(self.edges, gate, self.size)\n"
            "        return torch.sparse.mm(self.adj",
        ),
    ],
    "loss_of_a_channel_estimate_is_complex": [
        ("((net(pilots) - channel) ** 2)", "(net(pilots) - channel).abs().pow(2)")
    ],
    "scale_of_a_fake_quantizer_is_a_float": [
        (
            """        w = torch.fake_quantize_per_tensor_affine(
            self.weight, self.scale.item(), 0, -self.qmax - 1, self.qmax  # here
        )
""",
            """        v = self.weight / self.scale
        q = v.round().clamp(-self.qmax - 1, self.qmax)
        w = (v + (q - v).detach()) * self.scale
""",
        )
    ],
    "log_determinant_of_a_reflection": [
        ("torch.logdet(self.weight)", "torch.linalg.slogdet(self.weight).logabsdet")
    ],
    "learned_power_of_signed_features": [("x.pow(self.p)", "x.clamp(min=1e-6).pow(self.p)")],
    "log_odds_of_a_certain_probability": [("torch.logit(p)", "torch.logit(p, eps=1e-6)")],
    "memory_rows_are_copied_in_place": [
        ("memory.index_copy_(0", "memory = memory.index_copy(0"),
    ],
    "pattern_of_trained_layers_matches_nothing": [
        ("        p.requires_grad = re.match(pattern, name) is not None  # here", "        pass")
    ],
    "clip_of_zero_means_off": [("default=0.0", "default=1.0")],
    "hidden_states_wait_in_a_replay_buffer": [
        ("    obs, h = next_obs, next_h\n", "    obs, h = next_obs, next_h\n    h = h.detach()\n")
    ],
    "teacher_is_updated_in_place_before_backward": [
        ("    momentum_update(student, teacher)\n", ""),
        ("    loss.backward()\n", "    loss.backward()\n    momentum_update(student, teacher)\n"),
    ],
    "latent_of_a_decoder_is_optimized_after_cuda": [
        ("* 0.1  # here\n", "* 0.1\ncode = code.detach().requires_grad_()\n")
    ],
    "metric_is_minimized_through_a_callback": [("    @torch.inference_mode()\n", "")],
    "only_norms_are_tuned_after_a_filter": [
        ('name.endswith("norm")', "isinstance(module, nn.LayerNorm)")
    ],
    "lists_of_weights_in_a_mixin": [("class HeadMixin:", "class HeadMixin(nn.Module):")],
    "encoder_output_is_pickled": [
        ("        torch.save(tensor.detach(), buffer)  # here\n", "        del buffer\n"),
        ("buffer.getvalue()", "tensor"),
        ("torch.load(io.BytesIO(self.files[key]))", "self.files[key]"),
    ],
    "denominator_of_a_dice_loss_is_zero": [("g.sum(1))).mean()", "g.sum(1) + 1e-6)).mean()")],
    "gates_are_saturated_by_a_large_bias": [("-200.0", "-2.0")],
    "scales_in_a_list_of_leaves": [
        (
            "[torch.ones(3, requires_grad=True) for _ in range(2)]",
            "nn.ParameterList(nn.Parameter(torch.ones(3)) for _ in range(2))",
        )
    ],
    "rows_of_one_encoding": [
        ("codes = torch.tanh(enc(x))  # here\n", ""),
        ("    loss = dec", "    codes = torch.tanh(enc(x))\n    loss = dec"),
    ],
    "statistics_of_a_buffer_in_a_chain": [
        (
            "        y = x - self.mean",
            "        self.mean = self.mean.detach()\n        y = x - self.mean",
        )
    ],
    "eps_of_adam_is_zero_in_half": [("lr=1e-3)", "lr=1e-3, eps=1e-4)")],
    "half_precision_with_rmsprop": [("lr=1e-3)", "lr=1e-3, eps=1e-4)")],
    "splats_are_densified": [
        (
            "clones]))  # here\n",
            "clones]))\n            return torch.optim.Adam(self.parameters(), lr=1e-2)\n",
        ),
        ("        splats.densify", "        optimizer = splats.densify"),
    ],
    "camera_rotations_start_at_zero": [(".sum(-1).sqrt()", ".sum(-1).add(1e-12).sqrt()")],
    "margin_of_the_triplets_is_met": [("F.relu(", "F.leaky_relu(")],
    "vocabulary_grows_after_the_optimizer": [
        (
            "lm.add_tokens(2)\n",
            'lm.add_tokens(2)\noptimizer.add_param_group({"params": [lm.embed.weight]})\n',
        )
    ],
    "value_head_is_rescaled_before_backward": [
        ("    value.update(returns)\n", ""),
        ("    loss.backward()\n", "    loss.backward()\n    value.update(returns)\n"),
    ],
    "gates_of_the_l0_norm_are_closed": [("start=-8", "start=0")],
    "learned_optimizer_writes_data": [("theta.data.add_(update)", "theta = theta.add(update)")],
    "ensemble_of_predictions_keeps_graphs": [
        (
            "        ensemble.update",
            "        outputs = outputs.detach()\n        ensemble.update",
        )
    ],
    "knots_only_choose_a_bin": [
        ("bins = torch.searchsorted(self.knots, scores.contiguous())", "x = scores[:, None]"),
        (
            "self.levels[bins]",
            "self.levels[0] + torch.sigmoid(20 * (x - self.knots)) @ self.levels.diff()",
        ),
    ],
    "messages_are_added_to_data": [("result.data.index_add_(", "result = result.index_add(")],
    "curvature_penalty_has_no_graph": [("vs, retain_graph=True", "vs, create_graph=True")],
    "rates_of_a_spike_encoder": [
        (
            "torch.poisson(rates.expand(self.ticks, *rates.shape))",
            "torch.distributions.Normal(rates, rates.sqrt()).rsample((self.ticks,))",
        )
    ],
    "gate_is_written_into_a_column_of_data": [
        (
            "hidden.data[:, :1] = gate(x)",
            "hidden = torch.cat([gate(x), hidden[:, 1:]], dim=1)",
        )
    ],
    "learned_rate_moves_a_leaf_under_no_grad": [
        ("        with torch.no_grad():\n    ", ""),
        ("theta -= ", "theta = theta - "),
    ],
    "values_are_scattered_into_zeros": [
        ("memory.data.index_add_(", "memory = memory.index_add("),
    ],
    "squares_of_a_layer_norm": [("z.square()", "(z - torch.randn(8)).square()")],
    "divergence_of_probabilities": [
        ("(student(x) / 2).softmax(dim=1)", "(student(x) / 2).log_softmax(dim=1)")
    ],
    "divergence_from_log_probabilities": [
        ('KLDivLoss(reduction="batchmean")', 'KLDivLoss(reduction="batchmean", log_target=True)')
    ],
    "nll_loss_of_scores": [("nn.NLLLoss()", "nn.CrossEntropyLoss()")],
    "nll_loss_of_another_dimension": [("dim=0", "dim=1")],
    "nll_loss_of_a_map_of_scores": [("F.nll_loss(", "F.cross_entropy(")],
    "cross_entropy_of_a_sigmoid": [(", nn.Sigmoid())", ")")],
    "logits_loss_of_a_softmax": [(".softmax(-1)", "")],
    "vocoder_sees_silence": [("imag.pow(2)).sqrt()", "imag.pow(2)).clamp(min=1e-8).sqrt()")],
    "power_of_signed_errors": [("- x[:, 0]) **", "- x[:, 0]).clamp(min=1e-6) **")],
    "sigma_of_a_bayesian_layer_is_computed_once": [
        ("        self.sigma = torch.as_tensor(np.log1p(np.exp(self.rho.detach().numpy())))", ""),
        (
            "        weight = self.mu",
            "        self.sigma = torch.log1p(torch.exp(self.rho))\n        weight = self.mu",
        ),
    ],
    "threshold_of_a_difference_map": [
        ("torch.sign(difference - self", "torch.tanh(50 * (difference - self"),
        ("learnable_thresh) + 1)", "learnable_thresh)) + 1)"),
    ],
    "query_loss_of_the_only_step": [("with torch.no_grad():  # here", "with torch.enable_grad():")],
    "octaves_of_a_dream_are_not_leaves": [("octave.requires_grad_()", "octave.retain_grad()")],
    "end_of_an_integration_is_learned": [
        (
            "torch.linspace(0.0, self.end_time, self.steps + 1)",
            "self.end_time * torch.linspace(0, 1, self.steps + 1)",
        )
    ],
    "phase_loss_of_a_real_signal": [
        (
            "torch.angle(made) - torch.angle(clean)",
            "torch.angle(torch.fft.rfft(made)) - torch.angle(torch.fft.rfft(clean))",
        )
    ],
    "temperature_reaches_zero": [("temperature, dim=-1)", "max(temperature, 1e-2), dim=-1)")],
    "complete_basis_of_a_subspace": [('mode="complete"', 'mode="reduced"')],
    "modrelu_divides_by_the_modulus": [("z / modulus", "z / modulus.clamp(min=1e-6)")],
    "state_before_the_range_test_is_an_alias": [
        ("high=1e9", "high=1e-1"),
        ("state = model.state_dict()", "state = __import__('copy').deepcopy(model.state_dict())"),
    ],
    "horizon_is_an_argument_of_arange": [
        ("torch.arange(0, horizon.item(), 0.5)", "horizon * torch.linspace(0, 1, 5)")
    ],
    "fill_value_by_float": [("torch.full((3,), float(level))", "level * torch.ones(3)")],
    "prediction_is_detached_in_place_of_the_target": [("    p = p.detach()  # here\n", "")],
    "memory_of_a_transformer_keeps_its_graph": [
        (
            "logits, mems = model(ids, mems)",
            "logits, mems = model(ids, mems and [m.detach() for m in mems])",
        )
    ],
    "noise_is_reset_before_backward": [
        ("self.eps.normal_()", "self.eps = torch.randn_like(self.eps)")
    ],
    "smoothed_target_is_the_prediction": [
        ("true_dist.fill_(", "true_dist = torch.fill(true_dist, "),
    ],
    "logistic_by_hand_overflows": [("torch.exp(-x)", "torch.exp(-x.clamp(min=-50))")],
    "state_of_each_layer_is_an_argument": [
        ("states = kept", "states = [k.detach() for k in kept]")
    ],
    "norm_of_what_grad_returned": [("for g in grads)", "for g in grads if g is not None)")],
    "norm_of_what_grad_returned_by_a_loop": [
        ("allow_unused=True", "allow_unused=True, materialize_grads=True")
    ],
    "rate_of_a_million_millions": [("lr=1e12", "lr=1e-2")],
    "overflow_of_the_hidden_layer": [("lr=1e12", "lr=1e-2")],
    "one_row_is_standardized": [("randn(1, 3)", "randn(8, 3)"), ("x.std(0)", "(x.std(0) + 1e-6)")],
    "advantage_of_one_episode": [("[1.0]", "[1.0, 2.0]"), ("randn(1, 3)", "randn(2, 3)")],
    "critic_stays_frozen_after_its_first_step": [
        ("    opt_d.zero_grad()\n", "    opt_d.zero_grad()\n    critic.requires_grad_(True)\n")
    ],
    "average_is_copied_into_the_model": [("p.copy_(a)", "a.copy_(p)")],
    "checkpoint_is_loaded_in_the_loop": [("    net.load_state_dict(saved)\n", "")],
    "gradients_are_assigned_as_a_pair": [("(w * 2).sum()", "(w * unused).sum()")],
    "optimizer_in_each_step": [
        (
            "for step in range(5):\n"
            "    opt = torch.optim.Adam(model.parameters(), lr=1e-3)  # here\n",
            "opt = torch.optim.Adam(model.parameters(), lr=1e-3)\nfor step in range(5):\n",
        )
    ],
    "maximize_a_loss": [(", maximize=True", "")],
    "weight_decay_too_large": [("weight_decay=10.0", "weight_decay=1e-2")],
    "sgd_decay_above_one": [("lr=1.0", "lr=1e-2")],
    "frozen_teacher_is_the_student": [
        ("import torch\nfrom", "import copy\n\nimport torch\nfrom"),
        ("teacher = student", "teacher = copy.deepcopy(student)"),
    ],
    "frozen_by_the_name_of_no_layer": [
        ("loss = model", "model.requires_grad_(True)\n    loss = model")
    ],
    "grad_left_off_after_validation": [
        (
            "    torch.set_grad_enabled(False)  # here\n    val =",
            "    with torch.set_grad_enabled(False):\n        val =",
        )
    ],
    "bn_no_affine_squares": [(".pow(2).mean()", ".sub(1.5).abs().mean()")],
    "softmax_sum_log": [("p.sum(-1)", "(p * torch.arange(5.0)).sum(-1)")],
    "dropout_one": [("Dropout(1.0)", "Dropout(0.1)")],
    "overflow_softplus_by_hand": [
        ("torch.log(1 + torch.exp(net(x)))", "torch.nn.functional.softplus(net(x))")
    ],
    "logsumexp_by_hand": [("net(x).exp().sum(-1).log()", "torch.logsumexp(net(x), -1)")],
    "softmax_by_hand_overflows": [
        ("net(x).exp()", "torch.softmax(net(x), -1)"),
        ("(e / e.sum(-1, keepdim=True))", "e"),
    ],
    "checkpoint_input_changed": [("x.mul_(2)", "x = x.mul(2)")],
    "checkpoint_counts": [
        ("        self.shift += 1  # here\n", ""),
        ("    opt.zero_grad()\n", "    opt.zero_grad()\n    net.shift += 1\n"),
    ],
    "data_of_saved_tanh": [("h.data.clamp_(0, 1)", "h = h.clamp(0, 1)")],
    "data_of_a_saved_factor": [
        ("scale.data.mul_(3)  # here\nout.backward()", "out.backward()\nscale.data.mul_(3)")
    ],
    "retain_grad_after_backward": [
        (
            "h.pow(2).sum().backward()\nh.retain_grad()  # here",
            "h.retain_grad()\nh.pow(2).sum().backward()",
        )
    ],
    "forward_hooks_pile_up": [
        (
            "for _ in range(4):\n    net[0].register_forward_hook(lambda m, i, o: o * 0.5)  # here",
            "net[0].register_forward_hook(lambda m, i, o: o * 0.5)\nfor _ in range(4):",
        )
    ],
    "backward_hooks_pile_up": [
        (
            "for _ in range(4):\n    net[2].register_full_backward_hook(halve)  # here",
            "net[2].register_full_backward_hook(halve)\nfor _ in range(4):",
        )
    ],
    "generator_step_reuses_the_detached_images": [
        ("gen(torch.randn(16, 8)).detach()", "gen(torch.randn(16, 8))"),
        (
            "logits = torch.cat([disc(real), disc(fake)])",
            "logits = disc(torch.cat([real, fake.detach()]))",
        ),
    ],
    "step_of_a_trainer_returns_a_detached_loss": [("loss.detach()", "loss")],
    "ratio_of_a_policy_with_itself": [
        ("old_log_prob = log_prob\n", "old_log_prob = log_prob.detach()\n")
    ],
    "both_halves_of_an_adapter_start_at_zero": [
        ("torch.zeros(rank, base.in_features)", "torch.randn(rank, base.in_features)")
    ],
    "cell_state_keeps_its_history": [
        (
            "y, state = self.lstm(",
            "state = tuple(each.detach() for each in state)\n        y, state = self.lstm(",
        )
    ],
    "weights_of_the_tasks_are_added_late": [
        (
            "criterion = UncertaintyLoss(2)\n",
            "criterion = UncertaintyLoss(2)\n"
            'optimizer.add_param_group({"params": [criterion.log_vars]})\n',
        )
    ],
    "learned_schedule_is_computed_in_the_constructor": [
        (
            "level = self.alpha_bar[t]",
            "self.alpha_bar = torch.cumprod(1 - torch.sigmoid(self.raw), dim=0)\n"
            "        level = self.alpha_bar[t]",
        )
    ],
    "covariance_is_updated_in_its_slot": [
        ("            cov[t + 1] =", "            cov = cov.clone()\n            cov[t + 1] =")
    ],
    "bank_is_refreshed_before_backward": [
        (
            "        self.bank[index] =",
            "        self.bank = self.bank.clone()\n        self.bank[index] =",
        )
    ],
    "experts_in_a_dict_of_lists": [
        (
            'self.experts = {"text": [nn.Linear(dim, dim)], "image": [nn.Linear(dim, dim)]}',
            "self.experts = nn.ModuleDict("
            '{k: nn.ModuleList([nn.Linear(dim, dim)]) for k in ("text", "image")})',
        )
    ],
    "normalized_embedding_is_summed": [(".mean(dim=-1)  # here", " @ torch.linspace(0, 1, 16)")],
    "penalty_is_computed_once_for_all_epochs": [
        ("penalty = 0.01 * roughness(net[0])  # here\n", ""),
        ("    x, y = torch", "    penalty = 0.01 * roughness(net[0])\n    x, y = torch"),
    ],
    "clip_before_the_scaler_unscales": [
        ("    nn.utils.clip", "    scaler.unscale_(optimizer)\n    nn.utils.clip")
    ],
    "renormalized_table_is_used_before": [
        ("self.items.weight.t()", "self.items.weight.clone().t()")
    ],
    "clipped_after_each_step": [
        (
            "    opt.step()\n    nn.utils.clip_grad_norm_(model.parameters(), 0.1)  # here\n",
            "    nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n    opt.step()\n",
        )
    ],
    "sb_vae_that_samples": [("q.sample()", "q.rsample()")],
    "sb_conditional_code_by_sample": [("post.sample(", "post.rsample(")],
    "sb_code_by_torch_normal": [("torch.normal(mu, std)", "mu + std * torch.randn_like(std)")],
    "sb_weights_by_sample": [("q.sample()", "q.rsample()")],
    "sb_actor_by_sample": [("q.sample()", "q.rsample()")],
    "sb_average_that_is_the_model": [("= model  #", "= copy.deepcopy(model)  #")],
    "sb_average_that_is_a_shallow_copy": [("copy.copy(", "copy.deepcopy(")],
    "sb_target_that_is_the_net": [("= self.net  #", "= copy.deepcopy(self.net)  #")],
    "sb_soft_update_of_itself": [(", critic  #", ", copy.deepcopy(critic)  #")],
    "sb_best_state_that_goes_on": [("= model.state_dict()", "= copy.deepcopy(model.state_dict())")],
    "sb_inference_mode_of_a_caller": [("with torch.inference_mode():", "if True:")],
    "sb_zero_factor_beside_a_detach": [(".detach()", "")],
    "sb_300_parameters_in_a_checkpoint": [("=True)  # here", "=False)")],
    "sb_average_of_a_class": [("= model, decay", "= copy.deepcopy(model), decay")],
    "sb_function_far_from_the_loss": [("        return None", "        return grad * 2")],
    "sb_laplace_code_by_sample": [("q.sample()", "q.rsample()")],
    "wa_shared_gradients_are_assigned_once": [("step()\n", "step()\n    optimizer.zero_grad()\n")],
    "wa_natural_gradient_is_set_once": [("        if step == 0:\n    ", "")],
    "wa_std_is_the_root_of_the_log_variance": [("torch.sqrt(logvar)", "torch.exp(0.5 * logvar)")],
    "wa_magnitudes_of_silence": [("spec.imag**2)", "spec.imag**2 + 1e-8)")],
    "wa_parameters_are_counted_before_the_optimizer": [
        ("filter(lambda p: p.requires_grad, model.parameters())", _LISTED)
    ],
    "wa_temperature_of_sac_is_a_product": [
        (
            "        self.actor_opt =",
            "        self.log_alpha = self.log_alpha.detach().requires_grad_()\n"
            "        self.actor_opt =",
        )
    ],
    "wa_log_variances_in_a_list": [
        ("[torch.zeros(1, requires_grad=True) for _ in range(n_tasks)]", _REGISTERED)
    ],
    "wa_loss_is_made_to_require_grad": [
        ("pred.float(), labels.float()", "output.softmax(1), F.one_hot(labels, 5).float()"),
        ("        loss.requires_grad = True\n", ""),
    ],
    "sb_start_that_goes_on": [("= model.state_dict()", "= copy.deepcopy(model.state_dict())")],
}


@pytest.mark.parametrize("name", FIXES)
def test_the_fix_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(name, FIXES[name], tmp_path, monkeypatch)
