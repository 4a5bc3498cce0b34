"""Programs of two gloo ranks, in `rank_programs` and `rank_programs_more`: what each is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from children import start
from rank_programs_more import PROGRAMS

_LIMIT = 240  # seconds, for all programs together


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each program returns on each of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("rank_programs_more.py")
    options: Any = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stderr": subprocess.PIPE}
    ranks = [start([sys.executable, str(script), str(r), str(folder)], **options) for r in (0, 1)]
    try:
        errors = [rank.communicate(timeout=_LIMIT)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"rank{r}.json").read_text(encoding="utf-8")) for r in (0, 1)]


def test_each_program_ran_on_both_ranks(found: list[dict[str, Any]]) -> None:
    names = [program.__name__ for program in PROGRAMS]
    assert [list(each) for each in found] == [names, names]


def test_the_average_after_no_sync_is_an_event_and_no_part_of_the_pass(
    found: list[dict[str, Any]],
) -> None:
    second = found[0]["no_sync_then_average"]["events"][4:]
    assert second[0] == "1 → 3, pass 2"
    assert second[-1] == "4 gradients averaged over the ranks"


def test_a_parameter_that_other_ranks_filled(found: list[dict[str, Any]]) -> None:
    here, there = (each["unused_on_one_rank"]["verdicts"] for each in found)
    assert set(here.values()) == {"fine"}
    assert (there["b.weight"], there["a.weight"]) == ("from another result", "fine")


@pytest.mark.parametrize("question", ["verdicts", "live"])
def test_fully_sharded(found: list[dict[str, Any]], question: str) -> None:
    for each in found:
        verdicts = each["fully_sharded"][question]
        assert verdicts == dict.fromkeys(("0.weight", "0.bias", "2.weight", "2.bias"), "fine")
        assert each["fully_sharded"]["right"]


def test_the_flat_parameters_of_the_older_wrapper(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["fully_sharded_by_wrapper"]
        assert set(told["before"].values()) == {"backward not run", "left out"}
        assert set(told["after"].values()) == {"fine", "left out"}
        assert set(told["recorded"].values()) == {"fine"}  # of the parts on this rank
        assert set(told["alone"]) == {"fine"}  # asked about without the module


def test_a_sharded_layer_that_was_not_called(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert any("b was not called" in said for said in each["an_unused_shard"]["said"])


def test_tensor_parallel(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["tensor_parallel"]
        assert told["norm"] and told["note"] == "local [8,8], Shard(0), mesh 2"
        assert set(told["verdicts"].values()) == {"fine"}


def test_averages_by_hand_are_no_fault(found: list[dict[str, Any]]) -> None:
    for each in found:
        events = each["averaged_by_hand"]["events"]
        assert events[0].endswith("a.weight.grad  all_reduce  combined over the ranks")
        assert set(each["averaged_by_hand"]["verdicts"].values()) == {"fine"}
        assert set(each["parameters_averaged_by_hand"]["verdicts"].values()) == {"fine"}


@pytest.mark.parametrize(
    ("program", "unaveraged", "reason"),
    [
        ("trained_past_the_wrapper", {"a", "b"}, "not a call of the DistributedDataParallel"),
        ("step_after_no_sync", {"a", "b"}, "or in no_sync()"),
        ("unfrozen_after_the_wrapper", {"a"}, "while the parameter was frozen"),
        ("trained_through_the_wrapper", set(), ""),
        ("past_the_wrapper_and_averaged_by_hand", set(), ""),
    ],
)
def test_a_step_with_the_gradient_of_one_rank(
    found: list[dict[str, Any]], program: str, unaveraged: set[str], reason: str
) -> None:
    for each in found:
        told = each[program]
        wrong = {name for name, verdict in told["verdicts"].items() if verdict == "not averaged"}
        assert wrong == {f"{layer}.{kind}" for layer in unaveraged for kind in ("weight", "bias")}
        assert set(told["verdicts"].values()) <= {"fine", "not averaged"}
        assert told["are_equal"] is not bool(unaveraged) and reason in told["reason"]
        is_called = "past" not in program and "no_sync" not in program
        assert told["averages"] == (2 if is_called else 0)


def test_an_assigned_gradient_is_not_from_before_the_recording(found: list[dict[str, Any]]) -> None:
    for each in found:
        verdicts = each["gradient_assigned_where_nothing_uses_it"]["verdicts"]
        assert set(verdicts.values()) == {"fine"}


def test_a_parameter_that_was_sent_between_forward_and_backward(
    found: list[dict[str, Any]],
) -> None:
    here, there = (each["parameters_sent_before_backward"] for each in found)
    assert set(here["verdicts"].values()) == {"fine"}  # it sent them: they are as before
    assert there["verdicts"]["0.weight"] == "changed unseen"
    assert there["verdicts"]["2.weight"] == "fine"
    assert "wrote into 2.weight through an alias" in there["reason"]


def test_all_gather_cuts_the_graph_and_its_twin_does_not(found: list[dict[str, Any]]) -> None:
    for each in found:
        cut = each["gathered_without_a_gradient"]
        assert (cut["verdicts"]["a.weight"], cut["verdicts"]["b.weight"]) == ("cut", "fine")
        assert "torch.distributed.all_gather at" in cut["reason"]
        assert "torch.distributed.nn.functional.all_gather" in cut["fix"]
        assert set(each["gathered_with_the_fix"]["verdicts"].values()) == {"fine"}


@pytest.mark.parametrize(
    "program",
    [
        "tensor_parallel_steps",
        "pipeline_in_rounds",
        "pipeline_in_turns",
        "pipeline_by_hand",
        "sent_by_names_imported_before",
        "ignored_by_the_wrapper",
    ],
)
def test_healthy_programs(found: list[dict[str, Any]], program: str) -> None:
    for each in found:
        assert set(each[program]["verdicts"].values()) == {"fine"}


def test_the_functions_of_torch_stay_the_same_objects(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["sent_by_names_imported_before"]["got"] == [1.0, 1.0]


def test_a_cut_in_tensor_parallel(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["tensor_parallel_detached"]["verdicts"]
        assert told == {"0.weight": "cut", "0.bias": "cut", "2.weight": "fine", "2.bias": "fine"}


def test_a_parameter_beside_the_wrapper_is_not_averaged(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["parameter_beside_the_wrapper"]
        wrong = [name for name, verdict in told["verdicts"].items() if verdict != "fine"]
        assert wrong == ["scale"] and told["verdicts"]["scale"] == "not averaged"
        assert "or without it" in told["reason"] and not told["are_equal"]


# One process.


@pytest.mark.parametrize(
    ("program", "when"),
    [
        ("combined_before_backward", "before backward, while it was zero"),
        ("combined_after_the_step", "after the step had used it"),
    ],
)
def test_gradients_that_were_combined_at_another_time(
    found: list[dict[str, Any]], program: str, when: str
) -> None:
    for each in found:
        assert set(each[program]["verdicts"].values()) == {"not averaged"}
        assert each[program]["reason"].endswith(when)


def test_a_value_of_another_rank_that_is_not_finite(found: list[dict[str, Any]]) -> None:
    here, there = (each["not_finite_on_the_other_rank"] for each in found)
    assert "averaged it over 2 ranks" in here["reason"] and "other ranks" in here["fix"]
    assert "first known is at sub" in there["reason"]


def test_a_stage_that_sent_its_result_and_calls_no_backward(found: list[dict[str, Any]]) -> None:
    here, there = (each["stage_that_calls_no_backward"] for each in found)
    assert (here["verdict"], there["verdict"]) == ("backward not run", "fine")
    assert "; if send at " in here["fix"] and "h.backward(gradient)" in here["fix"]


def test_a_flat_parameter_with_a_frozen_part(found: list[dict[str, Any]]) -> None:
    here, there = (each["frozen_part_of_a_flat_parameter"] for each in found)
    assert here["recorded"] == {"2.weight": "left out", "2.bias": "left out"}
    assert there["recorded"] == {"2.weight": "fine", "2.bias": "fine"}
    for each in (here["live"], there["live"]):
        assert each["0.bias"] == "frozen"


def test_a_parameter_that_was_frozen_after_the_wrapper_was_made(
    found: list[dict[str, Any]],
) -> None:
    for each in found:
        told = each["frozen_after_the_wrapper"]
        assert told["reason"].endswith(": a.weight and a.bias, frozen after it was created")
        assert told["fix"] == "freeze them before DistributedDataParallel(model)"


def test_a_part_of_zeros_is_no_gradient_of_zeros(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["rows_that_are_on_one_rank"]
        assert set(told["before"].values()) == {"backward not run"}
        assert set(told["live"].values()) == {"fine"} == set(told["recorded"].values())
        assert told["passes"]
    here, there = (each["rows_that_are_on_one_rank"]["alone"] for each in found)
    assert re.match(r"it has a gradient, norm [\d.]+ in the part of it on this rank", here)
    assert there.startswith("it has a gradient, and the part of it on this rank is all zeros")


def test_a_flat_part_of_zeros_is_no_gradient_of_zeros(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert set(each["flat_rows_that_are_on_one_rank"].values()) == {0}


def test_the_first_pass_of_a_static_graph_is_averaged(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["first_pass_of_a_static_graph"]
        assert set(told["verdicts"].values()) == {"fine"}
        assert told["averages"] == ["4 gradients averaged over the ranks"]


def test_what_a_communication_hook_of_the_program_returns(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["communication_hooks"] == {
            "own": "4 gradients from its communication hook, which called no collective",
            "allreduce_hook": "4 gradients averaged over the ranks",
        }


def test_a_communication_hook_that_calls_no_collective(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["hook_that_calls_no_collective"]
        assert told["own"][0] == ["not averaged"]
        assert told["own"][1].endswith("which replaces the average, called no collective")
        assert told["fixed"][0] == ["fine"]


def test_a_gradient_whose_parts_on_all_ranks_are_zeros(found: list[dict[str, Any]]) -> None:
    told = found[0]["zeros_in_all_parts"]["gathered"]
    names = ("0.weight", "rank 1: 0.bias", "rank 1: 2.weight")
    assert told == {**dict.fromkeys(names, "zero"), "rank 1: 2.bias": "fine"}


def test_the_summary_counts_a_flat_parameter_once(found: list[dict[str, Any]]) -> None:
    for each in found:
        table = each["zeros_in_all_parts"]["summary"]
        assert "\ntotal         12      15 " in table and "modules without a row" not in table
        assert "(no module): FullyShardedDataParallel merged the parameters" in table


def test_a_step_before_fsdp_reduced_the_gradients(found: list[dict[str, Any]]) -> None:
    for each in found:
        said = each["step_before_fsdp_reduced"]["said"]
        assert len(said) == 2 and all("after backward in no_sync()" in each for each in said)


def test_parameters_that_are_averaged_as_one_tensor(found: list[dict[str, Any]]) -> None:
    for each in found:
        for verdicts in each["parameters_averaged_as_one_tensor"].values():
            assert set(verdicts.values()) == {"fine"}


def test_a_parameter_that_fully_shard_ignores(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["parameter_that_is_not_sharded"]
        wrong = {name for name, verdict in told["ignored"]["verdicts"].items() if verdict != "fine"}
        assert wrong == {"b.weight"} and "fully_shard did not average" in told["ignored"]["reason"]
        assert set(told["fixed"]["verdicts"].values()) == {"fine"}


def test_the_replacement_of_reduce_scatter_tensor(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["scattered_and_reduced"]
        assert told["plain"]["verdicts"]["a.weight"] == "changed unseen"
        assert told["plain"]["fix"].endswith(".reduce_scatter(output, input.chunk(world_size))")
        assert set(told["fixed"]["verdicts"].values()) == {"fine"}


def test_gradients_that_are_combined_on_one_rank(found: list[dict[str, Any]]) -> None:
    here, there = (each["combined_on_one_rank"] for each in found)
    assert set(here["verdicts"].values()) == {"fine"}
    assert here["event"].endswith("a.weight.grad  reduce  combined over the ranks")
    assert set(there["verdicts"].values()) == {"not averaged"}
    assert there["event"].endswith("a.weight.grad  reduce  sent to other ranks")
    assert there["reason"].endswith("gave the combined gradient to another rank only")
    assert "all_reduce" in there["fix"]


def test_values_of_another_rank_are_received(found: list[dict[str, Any]]) -> None:
    here, there = (each["parameters_from_one_rank"] for each in found)
    sent, received = "broadcast  sent to other ranks", "broadcast  received from another rank"
    assert here["events"] == [sent, f"a.weight.grad  {received}"]
    assert there["events"] == [f"a.weight  {received}", f"a.weight.grad  {sent}"]
    assert {*here["verdicts"].values(), *there["verdicts"].values()} == {"fine"}


def test_collectives_with_derivatives_have_public_names(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["collectives_with_derivatives"]
        assert set(told["verdicts"].values()) == {"fine"} and told["words"] == ["wait_tensor"]


def test_the_memory_in_which_a_stage_receives_is_not_listed(found: list[dict[str, Any]]) -> None:
    for program in ("pipeline_in_rounds", "pipeline_in_turns"):
        assert [each[program]["untrained"] for each in found] == [0, 0]


def test_a_head_that_was_replaced_after_the_model_was_wrapped(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["head_that_was_replaced"]
        wrong = {name for name, state in told["silent"]["verdicts"].items() if state != "fine"}
        assert wrong == {"head.weight", "head.bias"}
        assert "DistributedDataParallel" in told["silent"]["fix"]
        assert told["raised"][0].endswith(
            "head.weight and head.bias, replaced after it was created"
        )
        assert told["raised"][1] == "call DistributedDataParallel(model) after that"


def test_parts_of_a_flat_parameter_that_was_detached(found: list[dict[str, Any]]) -> None:
    for each in found:
        said = each["flat_parts_that_were_detached"]["said"]
        empty = {name for name, (verdict, _) in said.items() if verdict == "left out"}
        assert {name: verdict for name, (verdict, _) in said.items() if name not in empty} == {
            name: "cut" if "enc" in name else "fine" for name in said if name not in empty
        }
        assert any("detach() at " in reason for _, reason in said.values())
        assert all("holds no element of it" in said[name][1] for name in empty)


def test_a_part_that_is_not_finite_because_of_another_rank(found: list[dict[str, Any]]) -> None:
    for kind in ("flat", "DTensor"):
        verdict, reason, fix, *notes = found[0]["part_that_is_not_finite"][kind]
        assert (verdict, fix.partition(":")[0]) == (
            "NaN",
            "explain the recordings of the other ranks as well",
        )
        assert reason.endswith("not known on this rank, which has a part of it")
        assert ("grad norm: of the parts on this rank" in notes) is (kind == "DTensor")
    there = found[1]["part_that_is_not_finite"]["DTensor"]
    assert there[1].startswith("8 NaN in the part of it on this rank: the first known is at mul")


def test_data_with_which_a_pipeline_finds_the_shapes(found: list[dict[str, Any]]) -> None:
    assert [each["pipeline_without_an_optimizer"]["verdicts"] for each in found] == [["fine"]] * 2


def test_tensors_that_are_sent_as_objects(found: list[dict[str, Any]]) -> None:
    for each in found:
        told = each["gathered_as_objects"]
        assert told["objects"]["verdicts"]["a.weight"] == "cut"
        assert "torch.distributed.all_gather_object at" in told["objects"]["reason"]
        assert told["objects"]["fix"].endswith("torch.distributed.nn.functional.all_gather(tensor)")
        for kind in ("fixed", "logged"):
            assert told[kind]["verdicts"]["a.weight"] == "fine"


def test_a_plain_tensor_and_a_dtensor(found: list[dict[str, Any]]) -> None:
    for each in found:
        verdict, reason, fix = each["plain_tensor_with_a_dtensor"]["plain"]
        assert verdict == "distributed" and reason.endswith("with a plain tensor and a DTensor")
        assert "DTensor.from_local(x, mesh, [Replicate()])" in fix and "w.full_tensor()" in fix
        for kind in ("whole", "converted"):
            assert each["plain_tensor_with_a_dtensor"][kind][0] == "fine"


def test_gradients_that_are_combined_in_some_steps(found: list[dict[str, Any]]) -> None:
    for each in found:
        said = each["combined_in_some_steps"]
        assert set(said["some"]["verdicts"].values()) == {"not averaged"}
        assert said["some"]["reason"].endswith("combined it over the ranks for 2 of 4 steps only")
        assert said["some"]["fix"] == "combine it between backward() and each step()"
        for kind in ("all", "and parameters"):
            assert set(said[kind]["verdicts"].values()) == {"fine"}


def test_a_relu_that_blocks_the_gradient_of_shards(found: list[dict[str, Any]]) -> None:
    for each in found:
        said = each["relu_that_blocks_between_shards"]
        assert {verdict for verdict, *_ in said["alive"].values()} == {"fine"}
        for name in ("body.weight", "body.bias", "head.weight"):
            verdict, reason, fix = said["dead"][name]
            assert verdict == "zero" and reason.endswith("all 18 inputs are <= 0")
            assert "leaky_relu" in fix
