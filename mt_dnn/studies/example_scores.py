"""Metrics of resampled examples, many resamples at once. They give the same numbers as data_utils/metrics.py.

An example is a row, with all decisions in it. Rows of one question are one example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import stats

from data_utils.answer_texts import best_f1, is_right
from data_utils.entities import entity_counts
from data_utils.metrics import METRICS, Answers
from data_utils.scratch import chunks
from mt_dnn.runs.predictions import Predictions

Resampled = Callable[[np.ndarray], np.ndarray]  # the numbers of examples (..., n) → scores (...)


def example_count(predictions: Predictions) -> int:
    """How many examples a split has."""
    questions = predictions.answers.questions
    return predictions.rows if questions is None else len(np.unique(questions))


def resampled(metric: str, predictions: Predictions) -> Resampled:
    """A function that gives the metric for examples by number, for any number of resamples at once."""
    answers = predictions.answers
    of_sums = SUMS.get(metric)
    if metric in ENTITIES or (
        of_sums and answers.bounds is None and (answers.predictions.ndim == 1 or of_sums[0] is not _of_classes)
    ):
        counts, score = (_entities(answers), ENTITIES[metric]) if of_sums is None else (of_sums[0](answers), of_sums[1])
        if answers.questions is not None:
            numbers = np.unique(answers.questions, return_inverse=True)[1]
            counts = np.stack([np.bincount(numbers, weights=column) for column in counts.T], axis=1)
        return lambda examples: score(np.stack([_summed(column, examples) for column in counts.T]))
    if metric in VECTORIZED and answers.bounds is None and answers.questions is None:
        return lambda rows: VECTORIZED[metric](answers.predictions[rows], answers.labels[rows])
    return _each(metric, predictions)


def _summed(column: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """The sums over examples by number, (..., n) → (...)."""
    parts = (column[examples[..., part]].sum(-1, dtype=float) for part in chunks(examples.shape[-1]))
    return sum(parts, np.zeros(examples.shape[:-1]))


def _each(metric: str, predictions: Predictions) -> Resampled:
    """Scores one resample after the other."""
    questions = predictions.answers.questions
    if questions is not None:
        order = np.argsort(questions, kind="stable")
        rows_of = np.split(order, np.flatnonzero(np.diff(questions[order])) + 1)

    def answers_of(examples: np.ndarray) -> Answers:
        if questions is None:
            return predictions.of(examples)
        drawn = [rows_of[example] for example in examples]  # a question that is drawn twice is two questions
        numbers = np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])
        return replace(predictions.of(np.concatenate(drawn)), questions=numbers)

    def each(examples: np.ndarray) -> np.ndarray:
        drawn = examples.reshape(-1, examples.shape[-1])
        scores = [METRICS[metric].function(answers_of(chosen)) for chosen in drawn]
        return np.array(scores, float).reshape(examples.shape[:-1])

    return each


def right_examples(predictions: Predictions) -> np.ndarray | None:
    """For each example whether its answer is right, (N,). None if answers are numbers or there are several a row."""
    answers = predictions.answers
    if answers.bounds is not None or answers.predictions.dtype.kind == "f":
        return None
    if answers.predictions.dtype == object:
        return _exact_match(answers).astype(bool)
    return _accuracy(answers).astype(bool)


def _accuracy(answers: Answers) -> np.ndarray:
    right = answers.predictions == answers.labels
    return right if right.ndim == 1 else right.all(axis=1)


def _exact_match(answers: Answers) -> np.ndarray:
    return np.array([is_right(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)], float)


def _answer_f1(answers: Answers) -> np.ndarray:
    return np.array([best_f1(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)], float)


def _mae(answers: Answers) -> np.ndarray:
    return np.abs(answers.predictions - answers.labels).astype(float)


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where nothing can be divided."""
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)


def _mean_of(values: Callable[[Answers], np.ndarray]) -> Sums:
    """A metric that is the mean of a number of each decision."""
    return lambda answers: np.stack([(of := values(answers)), np.ones_like(of)], axis=1), lambda sums: sums[0] / sums[1]


def _of_classes(answers: Answers) -> np.ndarray:
    """(N, 3C): for each class whether a decision is a hit of it, whether it is predicted, whether it is labelled."""
    predicted, labelled = (
        np.eye(answers.n_class, dtype=bool)[values.astype(int, copy=False)]
        for values in (answers.predictions, answers.labels)
    )
    return np.concatenate([predicted * labelled, predicted, labelled], axis=1)


def _f1(sums: np.ndarray) -> np.ndarray:
    hits, predicted, labelled = np.split(sums, 3)
    return _divided(2.0 * hits, predicted + labelled)[1]


def _f1_macro(sums: np.ndarray) -> np.ndarray:
    hits, predicted, labelled = np.split(sums, 3)
    known = predicted + labelled
    return _divided(2.0 * hits, known).sum(0) / (known > 0).sum(0)


def _mcc(sums: np.ndarray) -> np.ndarray:
    """Matthews' correlation for any number of classes (Gorodkin 2004, eq. 8)."""
    hits, predicted, labelled = np.split(sums, 3)
    n = labelled.sum(0)
    covariance = hits.sum(0) * n - (predicted * labelled).sum(0)
    spread = (n**2 - (predicted**2).sum(0)) * (n**2 - (labelled**2).sum(0))
    return _divided(covariance, np.sqrt(spread))


def _entities(answers: Answers) -> np.ndarray:
    assert answers.bounds is not None
    return entity_counts(answers.labels, answers.predictions, answers.names, answers.bounds)


def _pearson(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    first, second = (values - values.mean(-1, keepdims=True) for values in (predictions.astype(float), labels))
    return _divided((first * second).sum(-1), np.sqrt((first**2).sum(-1) * (second**2).sum(-1)))


def _spearman(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _pearson(stats.rankdata(predictions, axis=-1), stats.rankdata(labels, axis=-1))


# Numbers of each decision (N, k), and the metric from their sums over the decisions that are drawn, (k, ...) → (...).
Sums = tuple[Callable[[Answers], np.ndarray], Callable[[np.ndarray], np.ndarray]]
SUMS: dict[str, Sums] = {
    "accuracy": _mean_of(_accuracy),
    "exact_match": _mean_of(_exact_match),
    "answer_f1": _mean_of(_answer_f1),
    "mae": _mean_of(_mae),
    "f1": (_of_classes, _f1),
    "f1_macro": (_of_classes, _f1_macro),
    "mcc": (_of_classes, _mcc),
}
ENTITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # from the sums of right, predicted and labelled entities
    "entity_f1": lambda sums: _divided(2.0 * sums[0], sums[1] + sums[2]),
    "entity_precision": lambda sums: _divided(sums[0], sums[1]),
    "entity_recall": lambda sums: _divided(sums[0], sums[2]),
}
VECTORIZED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # of predictions and labels (..., n)
    "pearson": _pearson,
    "spearman": _spearman,
}
