"""From logits to answers, one class per kind of answer: what a row's logits say, what is right, what a constant scores.

``outputs`` are the logits of each row of a prepared split, or of each of its windows: (decisions, options) each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.heads import HeadsConfig


@dataclass(frozen=True)
class Decoded:
    """A split of N decisions in row order; ``predictions`` (N,): classes, choices, values or texts; (N, C): class sets.

    ``scores``: probabilities (N, C), values (N,), or of a span task how much likelier no answer is than the text, in
    logits (N,). ``details``: what else a line of predictions says, by row.
    """

    predictions: np.ndarray
    scores: np.ndarray
    details: Sequence[Any] = ()


class Decoding(ABC):
    """How the logits of a task type are read."""

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        """What is kept of the logits of a batch, a row for each."""
        return logits

    @abstractmethod
    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        """The answers; ``owner`` is the task whose head gave the logits."""

    @abstractmethod
    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The best answer that is the same for every decision of a labelled split."""

    @abstractmethod
    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Prediction and scores of each row."""

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """The soft label of each row as data_utils/soft_labels.py reads it: the mean of what teachers think.

        Q = avg(Q_1, …, Q_K) (Liu et al. 2019b, section 3).
        """
        for scores in mean_scores(teachers):
            yield dict(zip(task.labels, figures(scores), strict=True))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        """What the metrics compare, of a labelled split."""
        assert split.labels is not None
        return Answers(
            decoded.predictions, split.labels, decoded.scores, n_class=task.n_class, questions=split.questions
        )


def mean_scores(teachers: Sequence[Decoded]) -> np.ndarray:
    """Mean of the scores of several decoded splits, in the shape of each."""
    return np.mean([one.scores for one in teachers], axis=0)


def figures(values: np.ndarray) -> list[float]:
    """Numbers for JSON with six significant figures."""
    return [float(f"{value:.6g}") for value in values]


@dataclass(frozen=True)
class Kind:
    """A task type: ``head(task, encoder, dropout, options)`` builds its head, ``decoding`` reads the logits.

    ``options``: how many a decision has, in the mean over the rows of a split; 1 where a value is asked for.
    """

    head: Callable[[TaskDef, Encoder, float, HeadsConfig], nn.Module]
    decoding: Decoding
    options: Callable[[TaskDef, Prepared], float] = lambda task, split: task.n_class


def mean_size(bounds: np.ndarray | None) -> float:
    """Mean of ``bounds[i+1] - bounds[i]``."""
    assert bounds is not None
    return float(np.diff(bounds).mean())
