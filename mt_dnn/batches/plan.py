"""Plans which rows of which tasks each update of a run reads. The plan is a pure function of the seed.

Each task is an endless stream of micro-batches. Its rows are put into a random order and cut into micro-batches. Then
they get a new order, and so on. A sampling strategy (sampling.py) says how many micro-batches an epoch takes from each
stream. The next epoch continues where the previous one stopped. So no row is read twice before all other rows of its
task were read once. `proportional` takes one pass over each task, so it reads every row once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

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

    def epoch(self, number: int) -> Iterator[tuple[MicroBatch, ...]]:
        """Yields the updates of an epoch (counted from 0), each a tuple of at most ``accumulate`` micro-batches.

        The rows of an update are chosen when it is asked for.

        Raises:
            UserError: a task has no rows, or the sampling weights do not fit the tasks.
        """
        counts, before = self._counts(number), self._batches_before(number)
        size = 1 if self.mix_tasks else self.accumulate  # micro-batches that stay together
        streams = {}
        for task, rows in self.sizes.items():
            span = range(before[task], before[task] + counts[task])
            streams[task] = _grouped(_stream(task, rows, self.batch_sizes[task], span, self.seed), size)
        main_last = self.sampling.strategy == "mtdnn" and self.sampling.mix_opt == 1
        turns = _turns(
            {task: -(-count // size) for task, count in counts.items()},
            main_last=main_last,
            rng=generator_of(self.seed, "order", number),
        )
        units = (next(streams[task]) for task in turns)
        return _grouped((batch for unit in units for batch in unit), self.accumulate) if self.mix_tasks else units

    def updates_in(self, epoch: int) -> int:
        """How many updates an epoch has, counted without ordering any rows."""
        counts = self._counts(epoch)
        groups = [sum(counts.values())] if self.mix_tasks else counts.values()
        return sum(-(-count // self.accumulate) for count in groups)

    def updates_before(self, epoch: int, update: int) -> int:
        """How many updates of the run come before an update of an epoch, both counted from 0."""
        if self._epochs_are_alike:
            return epoch * self.updates_in(0) + update
        return sum(map(self.updates_in, range(epoch))) + update

    @cached_property
    def total_steps(self) -> int:
        """How many updates the run makes."""
        if self.max_steps is None or self._epochs_are_alike:
            planned = self.updates_before(self.epochs, 0)
            return min(planned, self.max_steps or planned)
        steps = 0
        for number in range(self.epochs):
            steps += self.updates_in(number)
            if steps >= self.max_steps:  # the run needs no later epoch
                return self.max_steps
        return steps

    @property
    def _epochs_are_alike(self) -> bool:
        """True if all epochs certainly have the same number of updates: all have the same number of micro-batches."""
        alike = self.mix_tasks or self.accumulate == 1 or len(self.sizes) == 1
        return alike or self.sampling.takes_whole_passes

    def _batches_before(self, epoch: int) -> dict[str, int]:
        """How many micro-batches of each task all earlier epochs take together."""
        if self.sampling.takes_whole_passes:
            return {task: epoch * count for task, count in self._batches_per_pass.items()}
        sums = self._sums
        while len(sums) <= epoch:
            counts = self._counts(len(sums) - 1)
            sums.append({task: before + counts[task] for task, before in sums[-1].items()})
        return sums[epoch]

    @cached_property
    def _sums(self) -> list[dict[str, int]]:
        """For each epoch that was asked for, what ``_batches_before`` returns."""
        return [dict.fromkeys(self.sizes, 0)]

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
            order = generator_of(seed, "rows", task, number).permutation(np.arange(rows, dtype=np.int32))
        yield MicroBatch(task, order[batch * batch_size : (batch + 1) * batch_size].astype(np.int64))


def _turns(units: Mapping[str, int], *, main_last: bool, rng: np.random.Generator) -> list[str]:
    """The task of each unit, in random order. With ``main_last`` the units of the first task come after all others.

    ``units``: how many units each task has.
    """
    tasks = [task for task, count in units.items() for _ in range(count)]
    end = units[tasks[0]] if main_last else 0
    return [tasks[i] for i in end + rng.permutation(len(tasks) - end)] + tasks[:end]


def _grouped(batches: Iterable[MicroBatch], size: int) -> Iterator[tuple[MicroBatch, ...]]:
    """Yields tuples of ``size`` micro-batches; the last one has the rest."""
    remaining = iter(batches)
    while group := tuple(islice(remaining, size)):
        yield group
