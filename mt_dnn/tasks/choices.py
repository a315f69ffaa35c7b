"""Multiple choice and cloze: which of several texts is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor, nn

from data_utils.answer_texts import best_f1, is_right
from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.base import Decoded, Decoding, Kind, column, figures, mean_scores, mean_size
from mt_dnn.tasks.heads import HeadsConfig, PooledHead
from mt_dnn.tasks.losses import MISSING

MOST_ORDERED = 10


class Choices(Decoding):
    """Softmax over the choices of a row. Predictions files number the choices from 1."""

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        logits = np.full((len(outputs), max(output.shape[1] for output in outputs)), MISSING, np.float32)
        for row, output in enumerate(outputs):
            logits[row, : output.shape[1]] = output
        probabilities = softmax(logits.astype(np.float64), axis=1)
        return Decoded(probabilities.argmax(axis=1), probabilities)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """Two orders of the choices: the one with the highest accuracy, and the one with the highest mrr.

        A row that does not have the first choice of an order has the next one of the order.
        """
        assert split.labels is not None and split.groups is not None
        counts = np.diff(split.groups)
        right = np.zeros((len(counts), counts.max()))
        right[np.arange(len(counts)), split.labels] = 1
        yield _answered(best_firsts(right, counts)[counts - 1], counts)
        order = best_order(split.labels, counts)
        scores: np.ndarray = np.where(np.arange(counts.max()) < counts[:, None], len(order) - np.argsort(order), 0.0)
        yield Decoded(scores.argmax(axis=1), scores)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for prediction, scores in zip(decoded.predictions, decoded.scores, strict=True):
            named = {
                str(number): round(float(p), 6) for number, p in enumerate(scores, 1) if p > 0
            }  # 0: no such choice
            yield {"prediction": str(int(prediction) + 1), "scores": named}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        assert split.labels is not None
        yield from (str(number + 1) for number in split.labels)

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        predictions, labels = (np.array([int(record[key]) - 1 for record in records]) for key in ("prediction", "gold"))
        return Answers(predictions, labels, _scores(records), n_class=task.n_class)

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        assert split.groups is not None
        for choices, scores in zip(np.diff(split.groups), mean_scores(teachers), strict=True):
            yield figures(scores[:choices])


class Cloze(Choices):
    """The choice that fills the gap. Predictions are texts, because several choices may name the right answer."""

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """For each metric, the order of the choices whose first choices have the best score."""
        assert split.candidates is not None and split.groups is not None
        counts, gold, texts = np.diff(split.groups), self._gold(split), split.candidates.texts.to_pylist()
        for worth in (is_right, best_f1):
            earned = np.zeros((len(counts), counts.max()))
            for row, (choices, right) in enumerate(zip(texts, gold, strict=True)):
                earned[row, : len(choices)] = [worth(text, right) for text in choices]
            yield _answered(best_firsts(earned, counts)[counts - 1], counts)

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(self._texts(split, decoded), self._gold(split), decoded.scores, n_class=1)

    def _gold(self, split: Prepared) -> np.ndarray:
        """The texts of the right choices of each row, (N,)."""
        assert split.candidates is not None
        candidates, right = split.candidates.texts.to_pylist(), split.candidates.right.to_pylist()
        gold = np.empty(len(right), object)
        gold[:] = [[texts[number] for number in numbers] for texts, numbers in zip(candidates, right, strict=True)]
        return gold

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        for text, record in zip(self._texts(split, decoded), super().records(task, split, decoded), strict=True):
            yield {**record, "prediction": text}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        yield from self._gold(split)

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        return Answers(column(records, "prediction"), column(records, "gold"), _scores(records), n_class=1)

    def _texts(self, split: Prepared, decoded: Decoded) -> np.ndarray:
        """The text of the predicted choice of each row."""
        assert split.candidates is not None
        pairs = zip(split.candidates.texts.to_pylist(), decoded.predictions, strict=True)
        return np.array([texts[prediction] for texts, prediction in pairs], object)


def _scores(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The probabilities of the choices in a predictions file, (N, C). A choice that is not there has 0."""
    most = max(int(number) for record in records for number in record["scores"])
    return np.array([[record["scores"].get(str(number + 1), 0.0) for number in range(most)] for record in records])


def _answered(predictions: np.ndarray, counts: np.ndarray) -> Decoded:
    """The predicted choices of N rows with these numbers of choices. No score tells the other choices apart."""
    return Decoded(predictions, np.eye(counts.max())[predictions])


def best_firsts(worth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The first choices of that order of all choices which is worth most: in rows with n choices, choice ``[n − 1]``.

    A choice that is not in a row is left out of its order. So in rows with n choices the first choice is the one of
    rows with n − 1 choices, or choice n itself.

    ``worth`` (N, C): what a row adds if a choice is predicted. ``counts`` (N,): how many choices a row has.
    """
    by_count = [worth[counts == n].sum(axis=0) for n in range(1, worth.shape[1] + 1)]
    best: dict[int, tuple[float, list[int]]] = {}  # by the first choice: what is earned, and the first choices so far
    for last, earnings in enumerate(by_count):
        earned, firsts = max(best.values(), default=(0.0, []))
        best = {choice: (before + earnings[choice], [*path, choice]) for choice, (before, path) in best.items()}
        best[last] = (earned + earnings[last], [*firsts, last])
    return np.array(max(best.values())[1])


def best_order(labels: np.ndarray, counts: np.ndarray) -> list[int]:
    """The order of all C choices with the highest mean of 1/rank of the right choice. Missing choices have no rank.

    It is exact for up to MOST_ORDERED choices, by dynamic programming over the sets of choices that come first. More
    choices are ordered by how often they are right, which is exact if all rows have the same number of choices.

    ``labels`` (N,): the right choices. ``counts`` (N,): how many choices a row has.
    """
    most = int(counts.max())
    if most > MOST_ORDERED:
        return [int(choice) for choice in np.argsort(-np.bincount(labels, minlength=most), kind="stable")]
    rows = Counter(zip(labels.tolist(), counts.tolist(), strict=True))
    unknown: tuple[float, list[int]] = (-1.0, [])
    best = [(0.0, list[int]()), *[unknown] * (2**most - 1)]  # by the set of choices that come first, as bits
    for placed, (earned, order) in enumerate(best):
        for choice in (choice for choice in range(most) if not placed >> choice & 1):
            added = sum(
                times / (1 + (placed & 2**count - 1).bit_count())
                for (label, count), times in rows.items()
                if label == choice
            )
            best[placed | 1 << choice] = max(best[placed | 1 << choice], (earned + added, [*order, choice]))
    return best[-1][1]


class ChoiceHead(PooledHead):
    """One score for each choice of an example. Each choice is a sequence."""

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)

    def forward(self, pooled: Tensor, batch: Batch) -> Tensor:
        """(S, H) → logits (B, C), MISSING where an example has fewer than C choices."""
        return batch.by_example(super().forward(pooled, batch)[:, 0], MISSING)


def choice_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    return ChoiceHead(encoder.hidden_size, dropout, encoder.initializer_range)


def _choices_each(task: TaskDef, split: Prepared) -> float:
    return mean_size(split.groups)


KINDS = {
    "multiple_choice": Kind(choice_head, Choices(), _choices_each),
    "cloze": Kind(choice_head, Cloze(), _choices_each),
}
