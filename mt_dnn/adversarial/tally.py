"""The tally of TAT: counts how often the model gives each wrong answer, and draws wrong answers from these counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.files import LARGEST, read_text
from data_utils.task_def import TaskDef
from mt_dnn.distributed.ranks import all_reduce_sum, is_main
from mt_dnn.tasks.losses import MISSING

BINS = 10  # the value range of a regression task is cut into so many bins (Pereira et al. 2021, section 2)
SMOOTHING = 1.0  # added to each count


class Tally:
    """The probability e(y, c) of each wrong answer c when y is right. Answers are C classes, or ten bins of values.

    e(y, c) = (n(y, c) + 1) / Σ_{c' ≠ y} (n(y, c') + 1). n(y, c) is how often the clean passes of the previous epoch
    predicted c where y is right. In the first epoch n is ``counts``, (C, C). By default it is 0, so that e is uniform.

    Raises:
        UserError: a regression task has no value range.
    """

    def __init__(self, task: TaskDef, counts: Sequence[Sequence[float]] | None = None) -> None:
        self.task = task
        if task.type.answer == "number" and task.value_range is None:
            raise UserError(f"adversary: tat: {task.name}: wrong values need value_range; set it in the task file")
        size = len(_names(task))
        self.last = torch.zeros(size, size, dtype=torch.float64)
        if counts is not None:
            self.last = torch.tensor(counts, dtype=torch.float64)
        self.current = torch.zeros_like(self.last)
        self._copied: tuple[Tensor, Tensor] | None = None  # n, and the sums of its e on the device

    @property
    def probabilities(self) -> Tensor:
        """e, (C, C) in float64. A row is for one right answer and sums to 1. The diagonal is 0."""
        smoothed = (self.last + SMOOTHING).fill_diagonal_(0.0)
        return smoothed / smoothed.sum(1, keepdim=True)

    def sample(self, labels: Tensor, chances: Tensor, fractions: Tensor, logits: Tensor) -> Tensor:
        """Draws a wrong answer for each label, (N,): a class, or a value inside a wrong bin.

        ``chances`` and ``fractions`` are random numbers from [0, 1), (N,). ``chances`` choose the class or bin,
        ``fractions`` the value inside the bin. ``logits`` are not used here.
        """
        gold = self._bins(labels)
        cumulative = self._cumulative(labels.device)[gold]
        scaled = chances.double()[:, None] * cumulative[:, -1:]
        chosen = (cumulative <= scaled).sum(1)
        if self.task.value_range is None:
            return chosen
        low, high = self.task.value_range
        return low + (chosen + fractions.double()) * (high - low) / BINS

    def count(self, labels: Tensor, logits: Tensor, *, soft: bool = False) -> None:
        """Adds the predictions of a batch: logits (N, C), or values (N, 1) in a regression task.

        With ``soft`` the probabilities of all classes are added. A value has no probabilities and counts for its bin.
        """
        self.current = self.current.to(labels.device)
        gold = self._bins(labels)
        if self.task.value_range is not None:
            predicted = torch.nn.functional.one_hot(self._bins(logits[:, 0]), BINS)
        elif soft:
            predicted = logits.double().softmax(1)
        else:
            predicted = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
        self.current.index_add_(0, gold, predicted.double())

    def end_epoch(self) -> None:
        """Sets n to the counts of this epoch, summed over all ranks. n stays as it is if nothing was counted."""
        counts = all_reduce_sum(self.current.cpu())
        if counts.sum() > 0:
            self.last = counts
        self.current = torch.zeros_like(self.last)

    def collect(self) -> None:
        """Moves the counts of this epoch from all ranks to the main rank."""
        counts = all_reduce_sum(self.current.cpu())
        self.current = counts if is_main() else torch.zeros_like(counts)

    def state_dict(self) -> dict[str, Any]:
        """The counts of the previous epoch and of the current one, as JSON values."""
        return {"last": self.last.tolist(), "current": self.current.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        self.last = torch.tensor(state["last"], dtype=torch.float64)
        current = torch.tensor(state["current"], dtype=torch.float64)
        self.current = current if is_main() else torch.zeros_like(current)  # see collect

    def record(self) -> dict[str, Any]:
        """The counts and probabilities of the last full epoch, with the labels. A row is for one right answer.

        The option ``oracle`` reads a file with this content.
        """
        return {
            "task": self.task.name,
            "labels": _names(self.task),
            "counts": self.last.tolist(),
            "probabilities": self.probabilities.tolist(),
        }

    def _cumulative(self, device: torch.device) -> Tensor:
        """The sums of e along its rows, (C, C). They are copied to the device once, until n changes."""
        if self._copied is None or self._copied[0] is not self.last or self._copied[1].device != device:
            self._copied = self.last, self.probabilities.cumsum(1).to(device)
        return self._copied[1]

    def _bins(self, values: Tensor) -> Tensor:
        """The class, or the bin of a value, (N,). Values outside of the range count for its first or last bin."""
        if self.task.value_range is None:
            return values
        low, high = self.task.value_range
        return ((values - low) / (high - low) * BINS).nan_to_num(0.0).clamp(0, BINS - 1).long()


class Choices:
    """Draws wrong answers for task types without a tally. Each wrong option has the same probability."""

    def sample(self, labels: Tensor, chances: Tensor, fractions: Tensor, logits: Tensor) -> Tensor:
        """Draws a wrong option for each label, (N,). ``chances``, random numbers from [0, 1), (N,), choose it.

        An option whose logit in ``logits`` (N, C) is MISSING does not exist. A decision without a wrong option gets
        option 0. ``fractions`` are not used here.
        """
        wrong = (logits > MISSING / 2).scatter(1, labels[:, None], False)
        count = wrong.sum(1)
        chosen = torch.minimum((chances * count).long(), count - 1)
        return (wrong.cumsum(1) == chosen[:, None] + 1).int().argmax(1)

    def count(self, labels: Tensor, logits: Tensor, *, soft: bool = False) -> None: ...

    def end_epoch(self) -> None: ...

    def collect(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def record(self) -> None:
        return None


def _names(task: TaskDef) -> list[str]:
    """The labels of the task, or the bounds of its bins."""
    if task.value_range is None:
        return list(task.labels)
    low, high = task.value_range
    bounds = [low + (high - low) * i / BINS for i in range(BINS + 1)]
    return [f"{a:g}-{b:g}" for a, b in pairwise(bounds)]


def read_counts(path: Path, task: TaskDef) -> list[list[float]]:
    """Reads counts from a tally file of a run folder, or from another JSON file with ``labels`` and ``counts``.

    Raises:
        UserError: the file cannot be read, has other content, or has other labels than the task.
    """
    try:
        content = json.loads(read_text(path, most=LARGEST))
        labels, counts = content["labels"], [[float(n) for n in row] for row in content["counts"]]
    except OSError as error:
        raise UserError(f"{path}: adversary.oracle: not readable ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: adversary.oracle: {str(error).removeprefix(f'{path}: ')}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{path}: adversary.oracle: write JSON with labels and counts, one row of counts for each right answer"
        ) from None
    names = _names(task)
    if labels != names or [len(row) for row in counts] != [len(names)] * len(names):
        raise UserError(f"{path}: adversary.oracle: its labels are not those of {task.name}: {', '.join(names)}")
    if any(not 0 <= n < float("inf") for row in counts for n in row):
        raise UserError(f"{path}: adversary.oracle: counts have to be numbers from 0 on")
    return counts
