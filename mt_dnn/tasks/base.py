"""What the file of a task type exports: a Kind, which is its head and its decoding.

A *head* turns the final hidden states into logits. A *decoding* turns logits into answers. It also knows the right
answers, the best constant answer, and how predictions are written.
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
    """The answers of a model to the N decisions of a split, in row order.

    In most task types a row is one decision; in some it is one for each word or masked token.
    ``predictions`` (N,): class indices, numbers of choices from 0, values, texts or token ids. Of class sets (N, C):
    1 for each class that is chosen, else 0.
    ``scores``: probabilities (N, C); values (N,); for masked tokens log p of the right token (N,); for spans, by how
    many logits no answer is likelier than the best text (N,).
    ``details``: for each row, what else the decoding of the task type needs or writes.
    """

    predictions: np.ndarray
    scores: np.ndarray
    details: Sequence[Any] = ()


class Decoding(ABC):
    """Turns the logits of a task type into answers."""

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        """What ``__call__`` needs of a batch's logits, one row per decision; by default all of them.

        Evaluation keeps it in memory for a whole split.
        """
        return logits

    @abstractmethod
    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        """The answers to a split.

        ``owner``: the task to which the head belongs that gave the logits. It is ``task`` itself, or the task that is
        named by the field ``head`` of ``task``.
        ``outputs``: the condensed logits of each row of the prepared split, (decisions, options). Where long texts are
        cut into windows, the rows of a prepared split are windows.
        """

    @abstractmethod
    def constant(self, task: TaskDef, split: Prepared) -> Decoded:
        """The best answer that is the same for every decision of a labelled split."""

    @abstractmethod
    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """For each row the prediction and its scores, as they are written to a predictions file."""

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """The soft label of each row, as data_utils/soft_labels.py reads it: the mean over the teachers' scores.

        Q = avg(Q_1, …, Q_K) (Liu et al. 2019b, section 3).
        """
        for scores in mean_scores(teachers):
            yield dict(zip(task.labels, figures(scores), strict=True))

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        """The predictions beside the right answers of a labelled split, for the metrics."""
        assert split.labels is not None
        return Answers(
            decoded.predictions, split.labels, decoded.scores, n_class=task.n_class, questions=split.questions
        )

    def tune(self, head: nn.Module, task: TaskDef, split: Prepared, decoded: Decoded) -> bool:
        """Sets what a head keeps beside its weights to the best value for a labelled dev split.

        Returns whether it has changed; then ``decoded``, the head's answers to that split, is out of date.
        """
        return False


def mean_scores(teachers: Sequence[Decoded]) -> np.ndarray:
    """The mean of the teachers' scores, in their shape."""
    return np.mean([teacher.scores for teacher in teachers], axis=0)


def figures(values: np.ndarray) -> list[float]:
    """Numbers for JSON, with six significant figures."""
    return [float(f"{value:.6g}") for value in values]


@dataclass(frozen=True)
class Kind:
    """What mt_dnn needs to know of a task type.

    ``head(task, encoder, dropout, config)`` builds the head of a task.
    ``options(task, split)`` is the number of options between which a decision of a training split chooses, as a mean
    over its rows. It is 1 where the answer is a number.
    ``pretrained(name, settings, head)`` gives a new head its weights from the checkpoint ``name`` of an encoder, which
    has these transformers settings. It returns False if the checkpoint has none. None: no checkpoint has any.
    """

    head: Callable[[TaskDef, Encoder, float, HeadsConfig], nn.Module]
    decoding: Decoding
    options: Callable[[TaskDef, Prepared], float] = lambda task, split: task.n_class
    pretrained: Callable[[str, Any, nn.Module], bool] | None = None


def mean_size(bounds: np.ndarray | None) -> float:
    """Mean of ``bounds[i+1] - bounds[i]``."""
    assert bounds is not None
    return float(np.diff(bounds).mean())
