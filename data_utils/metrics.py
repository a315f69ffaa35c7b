"""Scores of predictions against labels: scikit-learn's, scipy's and seqeval's, defined also where theirs are not.

All are fractions in [-1, 1], never percent, but those that are the better the lower; only the confusion matrix is a
list of lists.
"""

from __future__ import annotations

import math
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_utils.errors import UserError, did_you_mean

Score = float | list[list[int]]


CLASSIFICATION = ("classification",)


CHOICE = ("multiple_choice",)


REGRESSION = ("regression",)


WORDS = ("sequence_labelling",)


SPAN = ("span",)


SETS = ("multi_label",)


CLOZE = ("cloze",)


ORDINAL = ("ordinal",)


TOKENS = ("masked_lm",)


ENTITY = re.compile(r"O|[BIESLU]-.+")  # IOB1, IOB2, IOBES, BILOU


IOBES = {"L-": "E-", "U-": "S-"}  # what seqeval calls the last and the only word of an entity in BILOU


@dataclass(frozen=True)
class Answers:
    """One split of N decisions and C classes.

    `predictions` and `labels` (N,): class indices, choices, real numbers, or a text beside a list of right ones; of
    class sets (N, C), zeros and ones. `scores` (N, C): probabilities or logits. `names` of the classes, `bounds`
    of sentences among the words, and `questions` (N,), equal for rows that belong to one question.
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
    """`binary`: for two classes only. `scalar`: a number, so that it can choose the best model.

    `entities`: for labels that mark entities, O, B-PER, I-PER. `lower_is_better`: it is not a fraction either.
    """

    function: Callable[[Answers], Score]
    task_types: tuple[str, ...] = CLASSIFICATION
    binary: bool = False
    scalar: bool = True
    entities: bool = False
    lower_is_better: bool = False


def accuracy(answers: Answers) -> float:
    """Share of right predictions; of class sets, of those that are right in every class."""
    right = answers.predictions == answers.labels
    return float(np.mean(right if right.ndim == 1 else right.all(1)))


def question_exact_match(answers: Answers) -> float:
    """Share of questions all of whose rows are right: MultiRC's EM (Khashabi et al. 2018)."""
    if answers.questions is None:
        raise UserError("metric 'question_exact_match': needs the column question_id")
    wrong = np.bincount(answers.questions, weights=answers.predictions != answers.labels)
    return float(np.mean(wrong == 0))


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


def entity_precision(answers: Answers) -> float:
    return _entities("precision_score", answers)


def entity_recall(answers: Answers) -> float:
    return _entities("recall_score", answers)


def entity_f1(answers: Answers) -> float:
    """Micro-averaged over entities, of which type and all words must be right (conlleval).

    Labels are in any of IOB1, IOB2, IOBES and BILOU.
    """
    return _entities("f1_score", answers)


def _entities(name: str, answers: Answers) -> float:
    from seqeval import metrics

    assert answers.bounds is not None
    names = [IOBES.get(name[:2], name[:2]) + name[2:] for name in answers.names]
    labels, predictions = (
        [[names[word] for word in sentence] for sentence in np.split(words, answers.bounds[1:-1])]
        for words in (answers.labels, answers.predictions)
    )
    return float(getattr(metrics, name)(labels, predictions, zero_division=0))


def exact_match(answers: Answers) -> float:
    """Share of predicted texts that are one of the right ones after SQuAD's normalisation (Rajpurkar et al. 2016).

    A right text of which nothing is left counts only where that is so of all, as no answer (evaluation 2.0; 1.1 keeps
    each as it is).
    """
    pairs = zip(answers.predictions, answers.labels, strict=True)
    return float(np.mean([normalized(text) in _wanted(right) for text, right in pairs]))


def answer_f1(answers: Answers) -> float:
    """Mean F1 of the words that the predicted text and the right one share, of several right ones the best.

    Right texts as in ``exact_match``; no words are 1 where none are right (evaluation 2.0; 0 in 1.1).
    """
    return float(np.mean([best_f1(*pair) for pair in zip(answers.predictions, answers.labels, strict=True)]))


def best_f1(text: str, right: Sequence[str]) -> float:
    """F1 of the words that a text shares with the right text that it is nearest to."""
    return max(_word_f1(normalized(text).split(), one.split()) for one in _wanted(right))


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces (SQuAD's official evaluation)."""
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _wanted(right: Sequence[str]) -> list[str]:
    """The right texts, normalized, without those of which nothing is left; an empty one where that is so of all."""
    return [bare for text in right if (bare := normalized(text))] or [""]


def _word_f1(words: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(words) & Counter(wanted)).values())
    if not words or not wanted:
        return float(words == wanted)
    return 2 * shared / (len(words) + len(wanted))


def mae(answers: Answers) -> float:
    """Mean distance between the predicted and the right class, in classes."""
    return float(np.abs(answers.predictions - answers.labels).mean())


def quadratic_kappa(answers: Answers) -> float:
    """Cohen's kappa with quadratic weights; 0 for constant predictions or labels."""
    from sklearn.metrics import cohen_kappa_score

    if _constant(answers):
        return 0.0
    classes = range(answers.n_class)  # by themselves scikit-learn's are those it sees, without gaps between them
    return float(cohen_kappa_score(answers.labels, answers.predictions, labels=classes, weights="quadratic"))


def perplexity(answers: Answers) -> float:
    """exp of the mean of −log p of the right token; scores (N,) are log p."""
    assert answers.scores is not None
    return float(np.exp(-answers.scores.mean()))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, CLASSIFICATION + CHOICE + WORDS + SETS + ORDINAL + TOKENS),
    "quadratic_kappa": Metric(quadratic_kappa, ORDINAL),
    "mae": Metric(mae, ORDINAL, lower_is_better=True),
    "perplexity": Metric(perplexity, TOKENS, lower_is_better=True),
    "question_exact_match": Metric(question_exact_match),
    "f1": Metric(f1, binary=True),
    "f1_macro": Metric(f1_macro, CLASSIFICATION + WORDS + SETS),
    "f1_micro": Metric(f1_micro, CLASSIFICATION + WORDS + SETS),
    "mcc": Metric(mcc),
    "auc": Metric(auc, binary=True),
    "confusion_matrix": Metric(confusion_matrix, scalar=False),
    "mrr": Metric(mrr, CHOICE),
    "entity_f1": Metric(entity_f1, WORDS, entities=True),
    "entity_precision": Metric(entity_precision, WORDS, entities=True),
    "entity_recall": Metric(entity_recall, WORDS, entities=True),
    "exact_match": Metric(exact_match, SPAN + CLOZE),
    "answer_f1": Metric(answer_f1, SPAN + CLOZE),
    "pearson": Metric(pearson, REGRESSION),
    "spearman": Metric(spearman, REGRESSION + ORDINAL),
}


def find_metric(name: str, location: str) -> Metric:
    """Raises UserError for a name that is not in METRICS."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS) or f" (known: {', '.join(METRICS)})"
        raise UserError(f"{location}: unknown metric '{name}'{hint}")
    return METRICS[name]


def compute(names: Sequence[str], answers: Answers) -> dict[str, Score]:
    """The metrics `names` of one split.

    Raises UserError for no rows, for unequal lengths, and for values that are not finite.
    """
    if answers.predictions.ndim > 2 or answers.predictions.shape != answers.labels.shape:
        raise UserError(f"metrics: predictions {answers.predictions.shape} and labels {answers.labels.shape} differ")
    if not len(answers.labels):
        raise UserError("metrics: there are no rows to score")
    for array in (answers.predictions, answers.scores):
        if array is not None and array.dtype != object and not np.isfinite(array).all():
            raise UserError("metrics: the predictions hold NaN or infinity, the model has diverged")
    return {name: find_metric(name, "metrics").function(answers) for name in names}
