"""METRICS: scores of predictions against labels. TASK_TYPES says which fit a task type.

They are computed with scikit-learn, scipy and seqeval. Where a library gives no value, this file defines one. A score
is a fraction in [-1, 1], never percent, unless lower is better. The confusion matrix is a list of lists of counts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_utils.answer_texts import best_f1, is_right
from data_utils.entities import entity_score
from data_utils.errors import UserError, did_you_mean
from data_utils.scratch import chunks

Score = float | list[list[int]]


@dataclass(frozen=True)
class Answers:
    """The answers of a model to one split, and the right answers: N decisions between C classes.

    ``predictions`` and ``labels`` (N,): class indices, numbers of choices, or real numbers. For class sets (N, C):
    zeros and ones. If answers are texts, a prediction is a text and a label is the list of all right texts.
    ``scores`` (N, C): probabilities or logits.
    ``names``: the class names. ``bounds``: sentence i is the words ``bounds[i]:bounds[i+1]``. ``questions`` (N,): an
    equal number for rows that belong to the same question.
    """

    predictions: NDArray[Any]
    labels: NDArray[Any]
    scores: NDArray[np.floating] | None
    n_class: int
    names: tuple[str, ...] = ()
    bounds: NDArray[np.integer] | None = None
    questions: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class Metric:
    """A metric. ``function`` scores the answers of a split.

    ``binary``: the metric needs a task with two classes. ``scalar``: it is a single number, so it can choose the best
    model. ``entities``: it needs labels that mark entities, such as O, B-PER, I-PER.
    """

    function: Callable[[Answers], Score]
    binary: bool = False
    scalar: bool = True
    entities: bool = False
    lower_is_better: bool = False

    def best(self, scores: Sequence[Any]) -> Score:
        """The best of several scores. If the metric is no single number, the first of them."""
        if not self.scalar:
            return scores[0]
        return min(scores) if self.lower_is_better else max(scores)


def accuracy(answers: Answers) -> float:
    """The share of right predictions. A predicted class set is right if it is right in every class."""
    right = answers.predictions == answers.labels
    return float(np.mean(right if right.ndim == 1 else right.all(1)))


def question_exact_match(answers: Answers) -> float:
    """The share of questions with only right rows, MultiRC's EM (Khashabi et al. 2018)."""
    if answers.questions is None:
        raise UserError("metric 'question_exact_match': needs the column question_id")
    numbers = np.unique(answers.questions, return_inverse=True)[1]  # some questions may have no row here
    wrong = np.bincount(numbers, weights=answers.predictions != answers.labels)
    return float(np.mean(wrong == 0))


def f1(answers: Answers) -> float:
    """F1 of class 1. It is 0 if class 1 is neither predicted nor labelled."""
    return _f1(answers, "binary")


def f1_macro(answers: Answers) -> float:
    """The mean F1 of the classes that are predicted or labelled at least once."""
    return _f1(answers, "macro")


def f1_micro(answers: Answers) -> float:
    """F1 computed from the hits and misses of all classes together."""
    return _f1(answers, "micro")


def _f1(answers: Answers, average: str) -> float:
    from sklearn.metrics import f1_score

    labels, predictions, counts = _pairs(answers)
    return float(f1_score(labels, predictions, average=average, sample_weight=counts, zero_division=0.0))


def mcc(answers: Answers) -> float:
    """Matthews' correlation. It is 0 for constant predictions or labels."""
    from sklearn.metrics import matthews_corrcoef

    if _constant(answers):
        return 0.0
    labels, predictions, counts = _pairs(answers)
    return float(matthews_corrcoef(labels, predictions, sample_weight=counts))


def pearson(answers: Answers) -> float:
    """Pearson's correlation. It is 0 for constant predictions or labels."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, answers)


def spearman(answers: Answers) -> float:
    """Spearman's correlation, with mean ranks for ties. It is 0 for constant predictions or labels."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, answers)


def _correlation(function: Callable[..., tuple[float, float]], answers: Answers) -> float:
    if _constant(answers):
        return 0.0
    with warnings.catch_warnings():  # scipy warns where nearly constant input makes the value unsure
        warnings.simplefilter("ignore")
        value = float(function(answers.predictions.astype(float), answers.labels.astype(float))[0])
    return value if math.isfinite(value) else 0.0


def _pairs(answers: Answers) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Labels and predictions, each pair of classes once, and how often it occurs.

    Scores of such pairs are those of all decisions, and need less memory. Where there are more possible pairs than
    decisions, or labels are sets, all decisions are returned, and None.
    """
    labels, predictions = answers.labels, answers.predictions
    classes = 1 + max(int(labels.max()), int(predictions.max()))
    if labels.ndim > 1 or classes**2 > len(labels):
        return labels, predictions, None
    counts = _counts(labels, predictions, classes)
    found = np.flatnonzero(counts)
    return found // classes, found % classes, counts[found]


def _counts(labels: NDArray[Any], predictions: NDArray[Any], classes: int) -> NDArray[Any]:
    """How often each pair of a label and a prediction occurs, (C · C,)."""
    counts = np.zeros(classes**2, np.int64)
    for rows in chunks(len(labels)):
        pairs = labels[rows].astype(int) * classes + predictions[rows].astype(int)
        counts += np.bincount(pairs, minlength=classes**2)
    return counts


def _constant(answers: Answers) -> bool:
    return bool(np.ptp(answers.predictions) == 0 or np.ptp(answers.labels) == 0)


def auc(answers: Answers) -> float:
    """Area under the ROC curve of class 1 against class 0. It is 0.5, as by chance, if only one of them is labelled.

    Rows are ranked by the difference of the two scores, which gives the same order for probabilities and for logits.
    """
    from sklearn.metrics import roc_auc_score

    if answers.scores is None:
        raise UserError("metric 'auc': needs the scores of both classes, not only predictions")
    if np.ptp(answers.labels) == 0:
        return 0.5
    return float(roc_auc_score(answers.labels, answers.scores[:, 1] - answers.scores[:, 0]))


def mrr(answers: Answers) -> float:
    """The mean of 1/rank of the right choice. Choices with equal scores get the mean of their ranks."""
    if answers.scores is None:
        raise UserError("metric 'mrr': needs the scores of all choices, not only predictions")
    gold = np.take_along_axis(answers.scores, answers.labels.astype(int)[:, None], axis=1)
    above, equal = (answers.scores > gold).sum(1), (answers.scores == gold).sum(1)
    return float(np.mean(1 / (above + (equal + 1) / 2)))


def confusion_matrix(answers: Answers) -> list[list[int]]:
    """Counts, (C, C). Row = label, column = prediction."""
    counts = _counts(answers.labels, answers.predictions, answers.n_class)
    return [[int(count) for count in row] for row in counts.reshape(answers.n_class, -1)]


def entity_precision(answers: Answers) -> float:
    """Share of the predicted entities that are right (entities.py)."""
    return _entities("precision_score", answers)


def entity_recall(answers: Answers) -> float:
    """Share of the labelled entities that are predicted (entities.py)."""
    return _entities("recall_score", answers)


def entity_f1(answers: Answers) -> float:
    """F1 of entity precision and entity recall. Labels are in any of IOB1, IOB2, IOBES and BILOU."""
    return _entities("f1_score", answers)


def _entities(name: Literal["precision_score", "recall_score", "f1_score"], answers: Answers) -> float:
    assert answers.bounds is not None
    return entity_score(name, answers.labels, answers.predictions, answers.names, answers.bounds)


def exact_match(answers: Answers) -> float:
    """Share of predicted texts that are one of the right texts after normalisation (answer_texts.py)."""
    pairs = zip(answers.predictions, answers.labels, strict=True)
    return float(np.mean([is_right(text, right) for text, right in pairs]))


def answer_f1(answers: Answers) -> float:
    """The mean of ``best_f1`` over the predicted texts (answer_texts.py)."""
    return float(np.mean([best_f1(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)]))


def mae(answers: Answers) -> float:
    """Mean absolute error: the distance between the predicted and the right class, in classes."""
    return float(np.abs(answers.predictions - answers.labels).mean())


def quadratic_kappa(answers: Answers) -> float:
    """Cohen's kappa with quadratic weights. It is 0 for constant predictions or labels."""
    from sklearn.metrics import cohen_kappa_score

    if _constant(answers):
        return 0.0
    classes = range(answers.n_class)  # without this scikit-learn takes only the classes that occur, and renumbers them
    labels, predictions, counts = _pairs(answers)
    return float(cohen_kappa_score(labels, predictions, labels=classes, weights="quadratic", sample_weight=counts))


def perplexity(answers: Answers) -> float:
    """exp(mean of −log p), p the probability of the right token. Scores (N,) are log p."""
    assert answers.scores is not None
    return float(np.exp(-answers.scores.mean()))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy),
    "quadratic_kappa": Metric(quadratic_kappa),
    "mae": Metric(mae, lower_is_better=True),
    "perplexity": Metric(perplexity, lower_is_better=True),
    "question_exact_match": Metric(question_exact_match),
    "f1": Metric(f1, binary=True),
    "f1_macro": Metric(f1_macro),
    "f1_micro": Metric(f1_micro),
    "mcc": Metric(mcc),
    "auc": Metric(auc, binary=True),
    "confusion_matrix": Metric(confusion_matrix, scalar=False),
    "mrr": Metric(mrr),
    "entity_f1": Metric(entity_f1, entities=True),
    "entity_precision": Metric(entity_precision, entities=True),
    "entity_recall": Metric(entity_recall, entities=True),
    "exact_match": Metric(exact_match),
    "answer_f1": Metric(answer_f1),
    "pearson": Metric(pearson),
    "spearman": Metric(spearman),
}


def find_metric(name: str, location: str) -> Metric:
    """The metric of this name. Raises UserError if there is none."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS) or f" (known: {', '.join(METRICS)})"
        raise UserError(f"{location}: unknown metric '{name}'{hint}")
    return METRICS[name]


def compute(names: Sequence[str], answers: Answers) -> dict[str, Score]:
    """Computes each metric in ``names`` on one split.

    Raises:
        UserError: there are no rows, predictions and labels differ in shape, or predictions are not finite.
    """
    if answers.predictions.ndim > 2 or answers.predictions.shape != answers.labels.shape:
        raise UserError(f"metrics: predictions {answers.predictions.shape} and labels {answers.labels.shape} differ")
    if not len(answers.labels):
        raise UserError("metrics: there are no rows to score")
    for array in (answers.predictions, answers.scores):
        if array is not None and array.dtype != object and not np.isfinite(array).all():
            raise UserError("metrics: the predictions hold NaN or infinity; the model has diverged")
    return {name: find_metric(name, "metrics").function(answers) for name in names}
