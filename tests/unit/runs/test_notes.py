"""The notes at the end of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.notes import adversary_notes, at_floor, predicts_constant, schedule_notes, score_notes
from mt_dnn.tasks.base import Decoded


@pytest.mark.parametrize(
    ("predictions", "constant"),
    [
        (np.array([1, 1, 1]), True),
        (np.array([1, 0, 1]), False),
        (np.array([1]), False),
        (np.array(["", ""], object), True),
        (np.array(["", "a"], object), False),
        (np.array([[0, 1], [0, 1]]), True),
        (np.array([[0, 1], [1, 0]]), False),
    ],
)
def test_constant_answers_are_recognised(predictions: np.ndarray, constant: bool) -> None:
    assert predicts_constant(Decoded(predictions, np.zeros(len(predictions)))) is constant


def result(metric: str, score: float, baseline: float) -> dict[str, object]:
    return {"task": "a", "split": "dev", "scores": {metric: score, "matrix": [[1]]}, "baseline": {metric: baseline}}


@pytest.mark.parametrize(
    ("metric", "score", "noted"),
    [
        ("accuracy", 0.5, True),
        ("accuracy", 0.4, True),
        ("accuracy", 0.6, False),
        ("mae", 0.4, False),
        ("mae", 0.6, True),
    ],
)
def test_scores_at_the_baseline_are_noted(metric: str, score: float, noted: bool) -> None:
    notes = list(score_notes([result(metric, score, 0.5)], []))
    assert bool(notes) is noted
    assert all(note.startswith("a (dev): no score is better") for note in notes)


def test_constant_answers_are_noted_once() -> None:
    (note,) = score_notes([result("accuracy", 0.5, 0.5)], ["a (dev)"])
    assert note.startswith("a (dev): every answer is the same; try a smaller optimizer.lr")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"delta_ratio": 0.001, "regularizer": 0.0105, "dropout_floor": 0.01}, "no more than dropout alone causes"),
        ({"delta_ratio": 0.05, "regularizer": 0.02, "dropout_floor": 0.01}, None),
        (  # the floor of the first update is lower than the regulariser of a model that has learnt
            {"delta_ratio": 0.001, "regularizer": 0.04, "measured_regularizer": 0.0105, "dropout_floor": 0.01},
            "the regulariser (0.0105) is no more than dropout alone causes",
        ),
        ({"delta_ratio": 0.05, "regularizer": 0.01, "measured_regularizer": 0.02, "dropout_floor": 0.01}, None),
        ({"delta_ratio": 0.001}, "raise adversary.step_size"),
        ({"delta_ratio": 0.05}, None),
        ({"regularizer": 0.01, "dropout_floor": 0.01}, None),  # rdrop has no perturbation
        ({}, None),
    ],
)
def test_a_perturbation_without_effect_is_noted(figures: dict[str, float], words: str | None) -> None:
    notes = list(adversary_notes("vat", figures))
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]
    assert at_floor(figures) is (figures.get("measured_regularizer", figures.get("regularizer")) in (0.0105, 0.01))


def test_a_rate_that_still_rose_is_noted(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["schedule.warmup_fraction=0.5"])
    (note,) = schedule_notes(config, 4, 10)
    assert note.startswith("the run ended after 4 of 5 updates of warm-up")
    assert not list(schedule_notes(config, 6, 10)) and not list(schedule_notes(config, 0, 10))
