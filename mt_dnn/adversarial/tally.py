"""The tally of TAT: which wrong answer a model gives how often, and targets drawn from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from mt_dnn.distributed.ranks import all_reduce_sum, is_main
from mt_dnn.tasks.losses import MISSING

BINS = 10  # of a regression task's value range (Pereira et al. 2021, section 2)
SMOOTHING = 1.0


class Tally:
    """e(y, c) over C classes, or over ten equal bins of a value range: uniform at first, updated once per epoch.

    e(y, c) = (n(y, c) + 1) / Σ_{c' ≠ y} (n(y, c') + 1), where n counts the clean pass's predictions of an epoch.

    Raises:
        UserError: a regression task without a value range.
    """

    def __init__(self, task: TaskDef, counts: Sequence[Sequence[float]] | None = None) -> None:
        self.task = task
        if task.type.answer == "number" and task.value_range is None:
            raise UserError(f"adversary: tat: {task.name}: its targets need a value_range in the task definition")
        size = len(_names(task))
        self.last = torch.zeros(size, size, dtype=torch.float64)
        if counts is not None:
            self.last = torch.tensor(counts, dtype=torch.float64)
        self.current = torch.zeros_like(self.last)

    @property
    def probabilities(self) -> Tensor:
        """e, (C, C) in float64; rows sum to 1, the diagonal is 0."""
        smoothed = (self.last + SMOOTHING).fill_diagonal_(0.0)
        return smoothed / smoothed.sum(1, keepdim=True)

    def sample(self, labels: Tensor, chances: Tensor, inside: Tensor, logits: Tensor) -> Tensor:
        """Wrong targets (N,), from numbers in [0, 1), (N,): classes; or values, uniform inside a wrong bin."""
        gold = self._bins(labels)
        cumulative = self.probabilities.cumsum(1).to(labels.device)[gold]
        scaled = chances.double()[:, None] * cumulative[:, -1:]
        chosen = (cumulative <= scaled).sum(1)
        if self.task.value_range is None:
            return chosen
        low, high = self.task.value_range
        return low + (chosen + inside) * (high - low) / BINS

    def count(self, labels: Tensor, logits: Tensor, *, soft: bool = False) -> None:
        """Adds the predictions of a batch: logits (N, C) or, of a regression task, values (N, 1).

        ``soft`` adds probabilities; a value has none, so values always count as their bin.
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
        """The epoch's counts, summed over all ranks, make the new e. An epoch without counts leaves it as it is."""
        counts = all_reduce_sum(self.current.cpu())
        if counts.sum() > 0:
            self.last = counts
        self.current = torch.zeros_like(self.last)

    def collect(self) -> None:
        """From here on the main rank holds what all have counted in this epoch."""
        counts = all_reduce_sum(self.current.cpu())
        self.current = counts if is_main() else torch.zeros_like(counts)

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last.tolist(), "current": self.current.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.last = torch.tensor(state["last"], dtype=torch.float64)
        current = torch.tensor(state["current"], dtype=torch.float64)
        self.current = current if is_main() else torch.zeros_like(current)  # the main rank holds it for all

    def record(self) -> dict[str, Any]:
        """What a reader, and the option ``oracle``, can use: counts of the last full epoch, rows are gold."""
        return {
            "task": self.task.name,
            "labels": _names(self.task),
            "counts": self.last.tolist(),
            "probabilities": self.probabilities.tolist(),
        }

    def _bins(self, values: Tensor) -> Tensor:
        """Class, or bin of a value clamped into the range, (B,)."""
        if self.task.value_range is None:
            return values
        low, high = self.task.value_range
        return ((values - low) / (high - low) * BINS).nan_to_num(0.0).clamp(0, BINS - 1).long()


class Choices:
    """Targets among the wrong options of a decision, each equally likely, whose logits are not MISSING."""

    def sample(self, labels: Tensor, chances: Tensor, inside: Tensor, logits: Tensor) -> Tensor:
        """Wrong options (N,), from numbers in [0, 1), (N,), and logits (N, C); the first option where there is none."""
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
    """Labels, or the bounds of the bins."""
    if task.value_range is None:
        return list(task.labels)
    low, high = task.value_range
    bounds = [low + (high - low) * i / BINS for i in range(BINS + 1)]
    return [f"{a:g}-{b:g}" for a, b in pairwise(bounds)]


def read_counts(path: Path, task: TaskDef) -> list[list[float]]:
    """Counts from a tally file of a run folder, or any JSON file with the same ``labels`` and ``counts``.

    Raises:
        UserError: not such a file, or of other labels.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels, counts = content["labels"], [[float(n) for n in row] for row in content["counts"]]
    except OSError as error:
        raise UserError(f"{path}: adversary.oracle: not readable ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: adversary.oracle: write JSON with labels and counts (rows are gold)") from None
    names = _names(task)
    if labels != names or [len(row) for row in counts] != [len(names)] * len(names):
        raise UserError(f"{path}: adversary.oracle: its labels are not those of {task.name}: {', '.join(names)}")
    if any(not 0 <= n < float("inf") for row in counts for n in row):
        raise UserError(f"{path}: adversary.oracle: counts are numbers from 0 on")
    return counts
