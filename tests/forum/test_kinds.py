"""Programs of each kind of wrong answer: `asking.py` says how they are written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from asking import (
    IN_THE_SHELL,
    Question,
    not_yet_right,
    questions,
    wrong,
    wrong_in_the_program,
    wrong_in_the_shell,
)

QUESTIONS = questions()
ANY_SEED = (
    "spectral_gan",
    "two_critic_steps_and_spectral_norm",
    "lazy_penalty_of_the_real_images",
    "gradient_penalty_with_its_graph",
    "each_fold_has_a_model",
)
RIGHT = [each for each in QUESTIONS if each.name not in not_yet_right()]


@pytest.mark.parametrize("question", RIGHT, ids=lambda each: each.name)
def test_answer(question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = wrong(question, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    # Each is a process of several seconds: every third here, all by `python tests/forum/asking.py`.
    "question",
    [each for each in RIGHT if each.kind[:2] in IN_THE_SHELL][::3],
    ids=lambda each: each.name,
)
def test_answer_in_the_shell(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = wrong_in_the_shell(question, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "question", [each for each in RIGHT if "\n# third " in each.code], ids=lambda each: each.name
)
def test_answer_in_the_program(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = wrong_in_the_program(question, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("seed", (1, 2, 5))
@pytest.mark.parametrize("name", ANY_SEED)
def test_a_healthy_program_with_another_seed(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (question,) = (each for each in RIGHT if each.name == name)
    code = question.code.replace("manual_seed(0)", f"manual_seed({seed})")
    assert code != question.code and question.is_control
    found = wrong(replace(question, code=code), tmp_path)
    assert not found, "\n".join(found)


def test_the_list_of_wrong_ones_names_programs_that_there_are() -> None:
    names = [each.name for each in QUESTIONS]
    assert len(set(names)) == len(names)
    assert not_yet_right() <= set(names)


def test_a_third_are_controls() -> None:
    assert 3 * sum(each.is_control for each in QUESTIONS) >= len(QUESTIONS)
