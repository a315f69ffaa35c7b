"""Plans which rows of which tasks each update of a run reads. The plan is a pure function of the seed.

Each task is an endless stream of micro-batches. Its rows are put into a random order and cut into micro-batches. Then
they get a new order, and so on. A sampling strategy (sampling.py) says how many micro-batches an epoch takes from each
stream. The next epoch continues where the previous one stopped. So no row is read twice before all other rows of its
task were read once. `proportional` takes one pass over each task, so it reads every row once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from data_utils.errors import UserError
from mt_dnn.batches.sampling import SamplingConfig, epoch_batches, generator_of


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Rows of one task for one forward and backward pass. ``rows``: (B,) int64, each row at most once."""

    task: str
    rows: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The updates of a whole run.

    Args:
        sizes: how many training rows each task has. The first task is the main task of the strategy `mtdnn`.
        batch_sizes: how many rows a micro-batch of each task has. The last one of a pass over the task has the rest.
        sampling: how many micro-batches of each task an epoch takes.
        accumulate: the largest number of micro-batches in an update.
        mix_tasks: True shuffles the micro-batches of all tasks and then groups them, so that an update mixes tasks.
            False fills each update from one task.
        seed: decides every order of rows and tasks.
        epochs: number of epochs.
        max_steps: the run ends after this many updates if the epochs have more.
    """

    sizes: Mapping[str, int]
    batch_sizes: Mapping[str, int]
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    accumulate: int = 1
    mix_tasks: bool = False
    seed: int
    epochs: int
    max_steps: int | None = None

    def epoch(self, number: int) -> list[tuple[MicroBatch, ...]]:
        """The updates of an epoch (counted from 0), each a tuple of at most ``accumulate`` micro-batches.

        Raises:
            UserError: a task has no rows, or the sampling weights do not fit the tasks.
        """
        history = [self._counts(earlier) for earlier in range(number + 1)]
        units: dict[str, list[tuple[MicroBatch, ...]]] = {}
        for task, rows in self.sizes.items():
            stop = sum(counts[task] for counts in history)
            span = range(stop - history[-1][task], stop)
            stream = list(_stream(task, rows, self.batch_sizes[task], span, self.seed))
            units[task] = _grouped(stream, 1 if self.mix_tasks else self.accumulate)
        main_last = self.sampling.strategy == "mtdnn" and self.sampling.mix_opt == 1
        ordered = _ordered(units, main_last=main_last, rng=generator_of(self.seed, "order", number))
        if not self.mix_tasks:
            return ordered
        return _grouped([batch for unit in ordered for batch in unit], self.accumulate)

    @cached_property
    def updates_per_epoch(self) -> list[int]:
        """The exact number of updates of every epoch, counted without ordering any rows."""
        updates = []
        for number in range(self.epochs):
            counts = self._counts(number)
            groups = [sum(counts.values())] if self.mix_tasks else counts.values()
            updates.append(sum(-(-count // self.accumulate) for count in groups))
        return updates

    def updates_before(self, epoch: int, update: int) -> int:
        """How many updates of the run come before an update of an epoch, both counted from 0."""
        return sum(self.updates_per_epoch[:epoch]) + update

    @property
    def total_steps(self) -> int:
        """How many updates the run makes."""
        planned = sum(self.updates_per_epoch)
        return min(planned, self.max_steps or planned)

    @cached_property
    def _batches_per_pass(self) -> dict[str, int]:
        for task, rows in self.sizes.items():
            if rows < 1:
                raise UserError(f"{task}: no training rows; give it some, or leave the task out")
        return {task: -(-rows // self.batch_sizes[task]) for task, rows in self.sizes.items()}

    def _counts(self, number: int) -> dict[str, int]:
        """How many micro-batches of each task an epoch takes."""
        return epoch_batches(
            self.sizes,
            self._batches_per_pass,
            config=self.sampling,
            seed=self.seed,
            epoch=number,
            epochs=self.epochs,
        )


def _stream(task: str, rows: int, batch_size: int, span: range, seed: int) -> Iterator[MicroBatch]:
    """Yields the micro-batches at the positions ``span`` of a task's endless stream.

    No micro-batch has rows of two passes over the task.
    """
    per_pass = -(-rows // batch_size)
    for position in span:
        number, batch = divmod(position, per_pass)
        if batch == 0 or position == span.start:
            order = generator_of(seed, "rows", task, number).permutation(rows)
        yield MicroBatch(task, order[batch * batch_size : (batch + 1) * batch_size])


def _ordered(
    units: Mapping[str, list[tuple[MicroBatch, ...]]], *, main_last: bool, rng: np.random.Generator
) -> list[tuple[MicroBatch, ...]]:
    """Shuffles the units of all tasks. With ``main_last`` the units of the first task come after all others.

    The units of one task keep their order.
    """
    tasks = [task for task, task_units in units.items() for _ in task_units]
    end = len(units[tasks[0]]) if main_last else 0
    turns = [tasks[i] for i in end + rng.permutation(len(tasks) - end)] + tasks[:end]
    waiting = {task: iter(task_units) for task, task_units in units.items()}
    return [next(waiting[task]) for task in turns]


def _grouped(batches: list[MicroBatch], size: int) -> list[tuple[MicroBatch, ...]]:
    return [tuple(batches[i : i + size]) for i in range(0, len(batches), size)]
