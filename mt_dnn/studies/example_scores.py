"""Metrics of resampled examples, many resamples at once. They give the same numbers as data_utils/metrics.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from data_utils.answer_texts import best_f1, is_right
from data_utils.metrics import METRICS, Answers
from mt_dnn.runs.predictions import Predictions

Resampled = Callable[[np.ndarray], np.ndarray]  # the numbers of examples (..., n) → scores (...)


def resampled(metric: str, predictions: Predictions) -> Resampled:
    """A function that gives the metric for examples by number, for any number of resamples at once."""
    answers = predictions.answers
    if answers.bounds is None and metric in MEANS:
        values = MEANS[metric](answers)
        return lambda rows: values[rows].mean(axis=-1)
    if answers.bounds is None and metric in COUNTED and answers.predictions.ndim == 1:
        return lambda rows: COUNTED[metric](answers.predictions[rows], answers.labels[rows], answers.n_class)

    def each(rows: np.ndarray) -> np.ndarray:
        found = [METRICS[metric].function(predictions.of(chosen)) for chosen in rows.reshape(-1, rows.shape[-1])]
        return np.array(found, float).reshape(rows.shape[:-1])

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
    return (right if right.ndim == 1 else right.all(axis=1)).astype(float)


def _exact_match(answers: Answers) -> np.ndarray:
    return np.array([is_right(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)], float)


def _answer_f1(answers: Answers) -> np.ndarray:
    return np.array([best_f1(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)], float)


def _mae(answers: Answers) -> np.ndarray:
    return np.abs(answers.predictions - answers.labels).astype(float)


MEANS: dict[str, Callable[[Answers], np.ndarray]] = {  # metrics that are means of a number of each example
    "accuracy": _accuracy,
    "exact_match": _exact_match,
    "answer_f1": _answer_f1,
    "mae": _mae,
}


def _f1(predictions: np.ndarray, labels: np.ndarray, n_class: int) -> np.ndarray:
    hits, found = ((predictions == 1) & (labels == 1)).sum(-1), (predictions == 1).sum(-1) + (labels == 1).sum(-1)
    return np.divide(2.0 * hits, found, out=np.zeros(np.shape(hits)), where=found > 0)


def _mcc(predictions: np.ndarray, labels: np.ndarray, n_class: int) -> np.ndarray:
    """Matthews' correlation for any number of classes (Gorodkin 2004, eq. 8)."""
    n = predictions.shape[-1]
    predicted, labelled = (
        np.stack([(values == number).sum(-1) for number in range(n_class)]).astype(float)
        for values in (predictions, labels)
    )
    covariance = (predictions == labels).sum(-1) * n - (predicted * labelled).sum(0)
    spread = (n**2 - (predicted**2).sum(0)) * (n**2 - (labelled**2).sum(0))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros(np.shape(covariance)), where=spread > 0)


def _pearson(predictions: np.ndarray, labels: np.ndarray, n_class: int) -> np.ndarray:
    first, second = (values - values.mean(-1, keepdims=True) for values in (predictions.astype(float), labels))
    spread = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    covariance = (first * second).sum(-1)
    return np.divide(covariance, spread, out=np.zeros(np.shape(covariance)), where=spread > 0)


def _spearman(predictions: np.ndarray, labels: np.ndarray, n_class: int) -> np.ndarray:
    return _pearson(stats.rankdata(predictions, axis=-1), stats.rankdata(labels, axis=-1), n_class)


COUNTED: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {  # of predictions and labels (..., n)
    "f1": _f1,
    "mcc": _mcc,
    "pearson": _pearson,
    "spearman": _spearman,
}
