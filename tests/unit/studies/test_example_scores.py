"""Metrics of many resamples at once give what data_utils/metrics.py gives for each of them."""

from __future__ import annotations

import numpy as np
import pytest

from data_utils.metrics import METRICS, Answers
from mt_dnn.runs.predictions import Predictions
from mt_dnn.studies.example_scores import example_count, resampled, right_examples
from mt_dnn.studies.example_tests import over_pairs

N, RESAMPLES = 40, 30


def predictions(answers: Answers, rows: int = N) -> Predictions:
    return Predictions(answers, rows)


def answers_of(metric: str, rng: np.random.Generator) -> Answers:
    if metric in ("pearson", "spearman"):
        labels = rng.integers(0, 6, N).astype(float)  # with ties
        return Answers((labels + rng.normal(0, 2, N)).round(), labels, None, n_class=1)
    if metric in ("exact_match", "answer_f1"):
        texts, gold = np.empty(N, object), np.empty(N, object)
        texts[:] = [rng.choice(["a cat", "the dog", "cat"]) for _ in range(N)]
        gold[:] = [["cat", "old cat"]] * N
        return Answers(texts, gold, None, n_class=1)
    if metric == "entity_f1":
        labels = np.tile([1, 2, 0, 1, 0], N // 5)
        noisy = np.where(rng.random(N) < 0.3, 0, labels)
        return Answers(noisy, labels, None, n_class=3, names=("O", "B-X", "I-X"), bounds=np.arange(0, N + 1, 5))
    classes = 2 if metric in ("f1", "auc") else 3
    labels = rng.integers(0, classes, N)
    scores = rng.dirichlet(np.ones(classes), N) + 0.5 * np.eye(classes)[labels]
    return Answers(scores.argmax(1), labels, scores, n_class=classes)


NAMES = [
    "accuracy",
    "mcc",
    "f1",
    "f1_macro",
    "auc",
    "mae",
    "pearson",
    "spearman",
    "exact_match",
    "answer_f1",
    "entity_f1",
    "quadratic_kappa",
]


@pytest.mark.parametrize("metric", NAMES)
def test_each_resample_has_the_score_of_its_rows(metric: str) -> None:
    rng = np.random.default_rng(NAMES.index(metric))
    answers = answers_of(metric, rng)
    count = N if answers.bounds is None else len(answers.bounds) - 1
    known = predictions(answers, count)
    rows = rng.integers(0, count, (RESAMPLES, count))
    found = resampled(metric, known)(rows)
    assert found.shape == (RESAMPLES,)
    assert found == pytest.approx([METRICS[metric].function(known.of(chosen)) for chosen in rows])
    assert resampled(metric, known)(np.arange(count)) == pytest.approx(METRICS[metric].function(answers))
    assert found.std() > 0


@pytest.mark.parametrize("metric", ["f1", "mcc", "pearson", "spearman"])
def test_a_constant_has_the_score_of_metrics(metric: str) -> None:
    zeros = predictions(Answers(np.zeros(N, int), np.arange(N) % 2, None, n_class=2))
    assert resampled(metric, zeros)(np.arange(N)) == METRICS[metric].function(zeros.answers) == 0


def test_pairs_are_compared_on_the_same_examples() -> None:
    """Two equal models differ by nothing, whatever examples are drawn; the mean over pairs is taken in each sample."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    better, worse = (np.where(rng.random(200) < share, labels, 1 - labels) for share in (0.9, 0.7))
    first, second = (predictions(Answers(p, labels, None, n_class=2), 200) for p in (better, worse))
    same = over_pairs("accuracy", [(first, first)])
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    found = over_pairs("accuracy", [(first, second)], scale=100)
    gap = (better == labels).astype(float) - (worse == labels)
    assert found.difference == pytest.approx(100 * gap.mean())
    half = 196 * gap.std() / 200**0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)  # type: ignore[operator]
    assert over_pairs("accuracy", [(first, second), (second, first)]).difference == pytest.approx(0)


def test_examples_are_right_where_answers_are_classes_or_texts() -> None:
    rng = np.random.default_rng(0)
    for metric, known in (("accuracy", True), ("exact_match", True), ("pearson", False), ("entity_f1", False)):
        answers = answers_of(metric, rng)
        right = right_examples(predictions(answers))
        assert (right is not None) == known
        assert right is None or right.mean() == pytest.approx(METRICS[metric].function(answers))


@pytest.mark.parametrize("metric", ["accuracy", "f1", "question_exact_match", "auc"])
def test_questions_are_drawn_whole(metric: str) -> None:
    """Against rows that are written out: each drawn question is one more question, with all its rows."""
    rng = np.random.default_rng(7)
    questions = np.repeat([3, 9, 4, 20, 11, 6], [3, 5, 4, 6, 2, 4])[rng.permutation(24)]
    labels, scores = rng.integers(0, 2, 24), rng.random((24, 2))
    predicted = np.where(rng.random(24) < 0.8, labels, 1 - labels)
    known = predictions(Answers(predicted, labels, scores, n_class=2, questions=questions), 24)
    assert example_count(known) == 6
    drawn = rng.integers(0, 6, (RESAMPLES, 6))
    expected = []
    for numbers in drawn:
        rows = [np.flatnonzero(questions == np.unique(questions)[number]) for number in numbers]
        every = np.concatenate(rows)
        apart = np.repeat(np.arange(6), [len(part) for part in rows])
        expected.append(
            METRICS[metric].function(Answers(predicted[every], labels[every], scores[every], 2, questions=apart))
        )
    found = resampled(metric, known)(drawn)
    assert found == pytest.approx(expected) and found.std() > 0
    assert over_pairs(metric, [(known, known)]).n == 6


def test_entities_are_counted_once_for_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read the labels of every sample again takes hours on a test set."""
    known = predictions(answers_of("entity_f1", np.random.default_rng(0)), N // 5)
    expected = [METRICS[name].function(known.answers) for name in ("entity_precision", "entity_recall")]
    monkeypatch.setattr(Predictions, "of", None)
    found = [resampled(name, known)(np.arange(N // 5)) for name in ("entity_precision", "entity_recall")]
    assert found == pytest.approx(expected)
