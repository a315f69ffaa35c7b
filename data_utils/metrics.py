"""Scores of predictions against labels: scikit-learn's and scipy's, defined also where theirs are not.

All are fractions in [-1, 1], never percent; only the confusion matrix is a list of lists.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from data_utils.task_def import TaskDef

Score = float | list[list[int]]
CLASSIFICATION = ("classification",)
CHOICE = ("multiple_choice",)
REGRESSION = ("regression",)


@dataclass(frozen=True)
class Answers:
    """One split of N examples and C classes.

    `predictions` and `labels` (N,): class indices, choices or real numbers; `scores` (N, C): probabilities or logits.
    """

    predictions: NDArray[np.generic]
    labels: NDArray[np.generic]
    scores: NDArray[np.floating] | None
    n_class: int


@dataclass(frozen=True)
class Metric:
    """`binary`: for two classes only. `scalar`: a number, so that it can choose the best model."""

    function: Callable[[Answers], Score]
    task_types: tuple[str, ...] = CLASSIFICATION
    binary: bool = False
    scalar: bool = True


def accuracy(answers: Answers) -> float:
    return float(np.mean(answers.predictions == answers.labels))


def f1(answers: Answers) -> float:
    """F1 of class 1; 0 where that class is neither predicted nor labelled."""
    return _f1(answers, "binary")


def f1_macro(answers: Answers) -> float:
    """Mean of the F1 of the classes that are predicted or labelled at least once."""
    return _f1(answers, "macro")


def f1_micro(answers: Answers) -> float:
    return _f1(answers, "micro")


def _f1(answers: Answers, average: str) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(answers.labels, answers.predictions, average=average, zero_division=0.0))


def mcc(answers: Answers) -> float:
    """Matthews' correlation; 0 for constant predictions or labels."""
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant(answers) else float(matthews_corrcoef(answers.labels, answers.predictions))


def pearson(answers: Answers) -> float:
    """0 for constant predictions or labels."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, answers)


def spearman(answers: Answers) -> float:
    """Ties get their mean rank; 0 for constant predictions or labels."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, answers)


def _correlation(function: Callable[..., tuple[float, float]], answers: Answers) -> float:
    if _constant(answers):
        return 0.0
    with warnings.catch_warnings():  # scipy warns where nearly constant input makes the value unsure
        warnings.simplefilter("ignore")
        value = float(function(answers.predictions.astype(float), answers.labels.astype(float))[0])
    return value if math.isfinite(value) else 0.0


def _constant(answers: Answers) -> bool:
    return bool(np.ptp(answers.predictions) == 0 or np.ptp(answers.labels) == 0)


def auc(answers: Answers) -> float:
    """Area under the ROC curve of class 1 against class 0; 0.5, chance, where only one of them is labelled.

    Rows are ranked by the difference of the two scores: the same order for probabilities and for logits.
    """
    from sklearn.metrics import roc_auc_score

    if answers.scores is None:
        raise UserError("metric 'auc': needs the scores of both classes, not only predictions")
    if np.ptp(answers.labels) == 0:
        return 0.5
    return float(roc_auc_score(answers.labels, answers.scores[:, 1] - answers.scores[:, 0]))


def mrr(answers: Answers) -> float:
    """Mean of 1/rank of the right choice; choices with equal scores share the mean of their ranks."""
    if answers.scores is None:
        raise UserError("metric 'mrr': needs the scores of all choices, not only predictions")
    gold = np.take_along_axis(answers.scores, answers.labels.astype(int)[:, None], axis=1)
    above, equal = (answers.scores > gold).sum(1), (answers.scores == gold).sum(1)
    return float(np.mean(1 / (above + (equal + 1) / 2)))


def confusion_matrix(answers: Answers) -> list[list[int]]:
    """Row = label, column = prediction; (C, C) counts."""
    cells = answers.labels.astype(int) * answers.n_class + answers.predictions.astype(int)
    counts = np.bincount(cells, minlength=answers.n_class**2)
    return [[int(count) for count in row] for row in counts.reshape(answers.n_class, -1)]


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, CLASSIFICATION + CHOICE),
    "f1": Metric(f1, binary=True),
    "f1_macro": Metric(f1_macro),
    "f1_micro": Metric(f1_micro),
    "mcc": Metric(mcc),
    "auc": Metric(auc, binary=True),
    "confusion_matrix": Metric(confusion_matrix, scalar=False),
    "mrr": Metric(mrr, CHOICE),
    "pearson": Metric(pearson, REGRESSION),
    "spearman": Metric(spearman, REGRESSION),
}


def find_metric(name: str, place: str) -> Metric:
    """Raises UserError for a name that is not in METRICS."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS) or f" (known: {', '.join(METRICS)})"
        raise UserError(f"{place}: unknown metric '{name}'{hint}")
    return METRICS[name]


def check_metrics(task: TaskDef) -> None:
    """Raises UserError for a metric that is unknown or does not fit the task's type or number of classes."""
    for name in task.metrics:
        metric = find_metric(name, task.name)
        if task.task_type not in metric.task_types:
            fitting = ", ".join(other for other, entry in METRICS.items() if task.task_type in entry.task_types)
            raise UserError(f"{task.name}: metric '{name}' does not fit a {task.task_type} task, use one of {fitting}")
        if metric.binary and task.n_class != 2:
            raise UserError(f"{task.name}: metric '{name}' needs 2 classes, the task has {task.n_class}, try f1_macro")


def compute(
    names: Sequence[str],
    *,
    predictions: ArrayLike,
    labels: ArrayLike,
    scores: ArrayLike | None = None,
    n_class: int,
) -> dict[str, Score]:
    """The metrics `names` of one split; `predictions` and `labels` (N,), `scores` (N, C) or None.

    Raises UserError for no rows, for unequal lengths, and for values that are not finite.
    """
    answers = Answers(
        np.asarray(predictions), np.asarray(labels), None if scores is None else np.asarray(scores), n_class
    )
    if answers.predictions.ndim != 1 or answers.predictions.shape != answers.labels.shape:
        raise UserError(f"metrics: predictions {answers.predictions.shape} and labels {answers.labels.shape} differ")
    if not len(answers.labels):
        raise UserError("metrics: there are no rows to score")
    for array in (answers.predictions, answers.scores):
        if array is not None and not np.isfinite(array).all():
            raise UserError("metrics: the predictions hold NaN or infinity, the model has diverged")
    return {name: find_metric(name, "metrics").function(answers) for name in names}
