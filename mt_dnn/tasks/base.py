"""What the file of a task type exports: a Kind, which is its head and its decoding.

A *head* turns the final hidden states into logits. A *decoding* turns logits into answers. It also knows the right
answers, the best constant answer, and how predictions are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor, nn

from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.scratch import chunks, scratch
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.tasks.heads import HeadsConfig


@dataclass(frozen=True)
class Decoded:
    """The answers of a model to the N decisions of a split, in row order.

    In most task types a row is one decision. In some it has one for each word or masked token.
    ``predictions`` (N,): class indices, numbers of choices from 0, values, texts or token ids. For class sets (N, C):
    1 for each class that is chosen, else 0.
    ``scores``: probabilities (N, C); values (N,); for masked tokens, log p of the right token, (N,); for spans, the
    score of no answer minus the score of the best text, (N,).
    ``details``: for each row, further values that the decoding of the task type needs or writes.
    ``loss``: the mean of the task's loss over the decisions, if it was asked for.
    ``outputs``: the condensed logits that gave the answers, if the head has a threshold that may still be tuned.
    """

    predictions: np.ndarray
    scores: np.ndarray
    details: Sequence[Any] = ()
    loss: float | None = None
    outputs: Sequence[np.ndarray] = ()


@dataclass(frozen=True, eq=False)
class Flat(Sequence[np.ndarray]):
    """The outputs of rows, one after the other in one array, (decisions of all rows, options).

    Row i has ``values[bounds[i]:bounds[i + 1]]``. Without ``bounds`` each row has one decision.
    """

    values: np.ndarray
    bounds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values) if self.bounds is None else len(self.bounds) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        start, stop = (row, row + 1) if self.bounds is None else self.bounds[row : row + 2]
        return self.values[start:stop]


def flat(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The outputs of all rows as one array, (decisions of all rows, options)."""
    return outputs.values if isinstance(outputs, Flat) else np.concatenate(outputs)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax of each row in float64, (N, C)."""
    found = scratch(logits.shape, np.float64)
    for rows in chunks(len(logits)):
        found[rows] = softmax(logits[rows].astype(np.float64), axis=1)
    return found


class Decoding(ABC):
    """Turns the logits of a task type into answers."""

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        """Reduces the logits of a batch to what ``__call__`` needs, one row per decision. By default to all of them.

        Evaluation keeps the result in memory for a whole split.
        """
        return logits

    @abstractmethod
    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        """The answers to a split.

        ``owner``: the task that owns the head. It is ``task`` itself, or the task that the field ``head`` of ``task``
        names.
        ``outputs``: the condensed logits of each row of the prepared split, (decisions, options). If long texts are cut
        into windows, the rows of a prepared split are windows.
        """

    @abstractmethod
    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """Yields constant answers to a labelled split, such as the same class for every decision.

        For each metric of the task type, one of them is the best constant answer. The first has the best accuracy.
        """

    @abstractmethod
    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Yields for each row the prediction and its scores, as a predictions file holds them."""

    @abstractmethod
    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        """Yields the right answer to each row of a labelled split, written as ``records`` writes a prediction.

        In task types where several answers may be right, it is the list of all of them.
        """

    @abstractmethod
    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        """The answers and the right answers in the records of a predictions file, as ``answers`` gives them.

        The records have the key ``gold``.
        """

    def soft_labels(self, task: TaskDef, split: Prepared, teachers: Sequence[Decoded]) -> Iterator[Any]:
        """Yields the soft label of each row, as data_utils/soft_labels.py reads it: the mean of the teachers' scores.

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

    def tune(self, head: nn.Module, task: TaskDef, split: Prepared, decoded: Decoded) -> Decoded:
        """Sets the head's threshold of no answer to the best value for a labelled dev split.

        ``decoded``: the head's answers to that split. Returns the answers with the new threshold, or ``decoded`` itself
        if the threshold stays.
        """
        return decoded


def mean_scores(teachers: Sequence[Decoded]) -> np.ndarray:
    """The mean of the teachers' scores, in their shape."""
    found = scratch(teachers[0].scores.shape, teachers[0].scores.dtype)
    for rows in chunks(len(found)):
        found[rows] = np.mean([teacher.scores[rows] for teacher in teachers], axis=0)
    return found


def column(records: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """The values of a key, texts or lists, as an array of objects, (N,)."""
    values = np.empty(len(records), object)
    values[:] = [record[key] for record in records]
    return values


def figures(values: np.ndarray) -> list[float]:
    """Numbers for JSON, with six significant figures."""
    return [float(f"{value:.6g}") for value in values]


@dataclass(frozen=True)
class Kind:
    """What mt_dnn needs to know about a task type.

    ``head(task, encoder, dropout, config)`` builds the head of a task.
    ``options(task, split)``: how many options a decision has, the mean over training rows; 1 for a number.
    ``pretrained(name, revision, settings, head)`` loads the weights of a new head from the checkpoint ``name`` of an
    encoder with these transformers settings. It returns False if the checkpoint has no weights for the head. None: no
    checkpoint of an encoder has any.
    """

    head: Callable[[TaskDef, Encoder, float, HeadsConfig], nn.Module]
    decoding: Decoding
    options: Callable[[TaskDef, Prepared], float] = lambda task, split: task.n_class
    pretrained: Callable[[str, str | None, Any, nn.Module], bool] | None = None


def mean_size(bounds: np.ndarray | None) -> float:
    """Mean of ``bounds[i+1] - bounds[i]``."""
    assert bounds is not None
    return float(np.diff(bounds).mean())
