"""Which task, and which of its rows, each update of an epoch reads: a pure function of (seed, epoch).

A task is an endless stream of batches: its rows in a random order, cut into batches, then all its rows in a
new order, and so on. A strategy says how many batches of each task an epoch takes; each epoch goes on where
the last one stopped. So no row is served twice before all others of its task were served once, whatever the
strategy, and `proportional`, which takes one whole pass of each task, serves every row once per epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from data_utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from mt_dnn.config import SamplingConfig


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Rows of one task for one forward and backward pass; ``rows`` is (B,) int64, each row at most once."""

    task: str
    rows: np.ndarray


def plan_epoch(
    sizes: Mapping[str, int],
    *,
    config: SamplingConfig,
    batch_sizes: Mapping[str, int],
    accumulate: int,
    mix_tasks: bool,
    seed: int,
    epoch: int,
    epochs: int,
) -> list[tuple[MicroBatch, ...]]:
    """The updates of an epoch, each a tuple of at most ``accumulate`` micro-batches.

    Args:
        sizes: training rows of each task; the first task is the main one of `mtdnn`.
        batch_sizes: rows in a micro-batch of each task; the last one of a pass holds what is left.
        mix_tasks: True groups consecutive micro-batches of the shuffled epoch, so that an update mixes tasks;
            False fills each update from one task.
        epoch: 0-based, below ``epochs``.

    Raises:
        UserError: a task without rows, or weights that do not fit the tasks.
    """
    passes = _batches_per_pass(sizes, batch_sizes)
    count = partial(epoch_batches, sizes, passes, config=config, seed=seed, epochs=epochs)
    history = [count(epoch=e) for e in range(epoch + 1)]
    units: dict[str, list[tuple[MicroBatch, ...]]] = {}
    for task, rows in sizes.items():
        stop = sum(counts[task] for counts in history)
        span = range(stop - history[-1][task], stop)
        stream = list(_stream(task, rows, batch_sizes[task], span, seed))
        units[task] = _grouped(stream, 1 if mix_tasks else accumulate)
    main_last = config.strategy == "mtdnn" and config.mix_opt == 1
    ordered = _ordered(units, main_last=main_last, rng=_generator(seed, "order", epoch))
    return _grouped([batch for unit in ordered for batch in unit], accumulate) if mix_tasks else ordered


def updates_per_epoch(
    sizes: Mapping[str, int],
    *,
    config: SamplingConfig,
    batch_sizes: Mapping[str, int],
    accumulate: int,
    mix_tasks: bool,
    seed: int,
    epochs: int,
) -> list[int]:
    """The exact number of updates of every epoch (their sum is the run's), without ordering any rows."""
    passes = _batches_per_pass(sizes, batch_sizes)
    updates = []
    for epoch in range(epochs):
        counts = epoch_batches(sizes, passes, config=config, seed=seed, epoch=epoch, epochs=epochs)
        parts = [sum(counts.values())] if mix_tasks else counts.values()
        updates.append(sum(-(-part // accumulate) for part in parts))
    return updates


def epoch_batches(
    sizes: Mapping[str, int],
    passes: Mapping[str, int],
    *,
    config: SamplingConfig,
    seed: int,
    epoch: int,
    epochs: int,
) -> dict[str, int]:
    """Batches of each task in an epoch; ``passes`` are the batches in one pass over each task.

    `proportional` takes one pass of each task. The strategies with a probability p per task share out as many
    batches as one pass of all tasks holds: each gets that number times p, rounded at random up or down so
    that its mean is exact (systematic sampling).
    """
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch {epoch} of {epochs}")
    if config.strategy == "proportional":
        return dict(passes)
    rng = _generator(seed, "batches", epoch)
    if config.strategy == "mtdnn":
        return _mtdnn_batches(passes, config.ratio, rng)
    edges = np.cumsum(list(probabilities(sizes, config=config, epoch=epoch, epochs=epochs).values()))
    marks = np.floor(edges / edges[-1] * sum(passes.values()) + rng.random()).astype(int)
    return dict(zip(sizes, np.diff(marks, prepend=0).tolist(), strict=True))


def probabilities(sizes: Mapping[str, int], *, config: SamplingConfig, epoch: int, epochs: int) -> dict[str, float]:
    """Probability that a batch comes from a task, N rows in it and N' = min(N, ``size_cap``).

    `uniform`: equal. `weights`: as given, scaled to 1.
    `temperature`: p ∝ N'^(1/T) (Raffel et al. 2020).
    `annealed`: p ∝ N'^α with α = 1 − 0.8·(e−1)/(E−1) in epoch e of E (Stickland & Murray 2019).
    """
    annealed = 1 - 0.8 * epoch / max(epochs - 1, 1)
    powers = {"uniform": 0.0, "temperature": 1 / config.temperature, "annealed": annealed}
    if config.strategy == "weights":
        shares = _weights(sizes, config.weights)
    else:
        capped = {task: min(rows, config.size_cap or rows) for task, rows in sizes.items()}
        shares = {task: rows ** powers[config.strategy] for task, rows in capped.items()}
    total = sum(shares.values())
    return {task: share / total for task, share in shares.items()}


def shard(lengths: np.ndarray, rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    """Every ``world``-th of the rows sorted by length, so that ranks hold about equally many tokens."""
    return rows[np.argsort(lengths[rows], kind="stable")][rank::world]


def _mtdnn_batches(passes: Mapping[str, int], ratio: float, rng: np.random.Generator) -> dict[str, int]:
    """All batches of the first task; of the others all, or ratio times as many drawn at random."""
    main, *others = passes
    if not ratio or not others:
        return dict(passes)
    available = [passes[task] for task in others]
    picks = min(int(passes[main] * ratio), sum(available))
    drawn = rng.multivariate_hypergeometric(available, picks, method="marginals")
    return {main: passes[main], **dict(zip(others, drawn.tolist(), strict=True))}


def _weights(sizes: Mapping[str, int], weights: Mapping[str, float]) -> Mapping[str, float]:
    for task in weights:
        if task not in sizes:
            raise UserError(f"sampling.weights: '{task}' is not a training task{did_you_mean(task, sizes)}")
    if missing := [task for task in sizes if task not in weights]:
        raise UserError(f"sampling.weights: no weight for {', '.join(missing)}; give 0 to leave a task out")
    if any(not 0 <= weight < np.inf for weight in weights.values()) or not any(weights.values()):
        raise UserError("sampling.weights: weights are numbers from 0 upwards, at least one above 0")
    return {task: weights[task] for task in sizes}


def _batches_per_pass(sizes: Mapping[str, int], batch_sizes: Mapping[str, int]) -> dict[str, int]:
    for task, rows in sizes.items():
        if rows < 1:
            raise UserError(f"{task}: no training rows; leave the task out or give it some")
    return {task: -(-rows // batch_sizes[task]) for task, rows in sizes.items()}


def _stream(task: str, rows: int, batch_size: int, span: range, seed: int) -> Iterator[MicroBatch]:
    """The batches of a task's endless stream at the positions of ``span``; none crosses two passes."""
    per_pass = -(-rows // batch_size)
    for position in span:
        number, batch = divmod(position, per_pass)
        if batch == 0 or position == span.start:
            order = _generator(seed, "rows", task, number).permutation(rows)
        yield MicroBatch(task, order[batch * batch_size : (batch + 1) * batch_size])


def _ordered(
    units: Mapping[str, list[tuple[MicroBatch, ...]]], *, main_last: bool, rng: np.random.Generator
) -> list[tuple[MicroBatch, ...]]:
    """Tasks in random order, or the first task after the shuffled others; a task's units keep their order."""
    tasks = [task for task, own in units.items() for _ in own]
    end = len(units[tasks[0]]) if main_last else 0
    turns = [tasks[i] for i in end + rng.permutation(len(tasks) - end)] + tasks[:end]
    waiting = {task: iter(own) for task, own in units.items()}
    return [next(waiting[task]) for task in turns]


def _grouped(batches: list[MicroBatch], size: int) -> list[tuple[MicroBatch, ...]]:
    return [tuple(batches[i : i + size]) for i in range(0, len(batches), size)]


def _generator(*key: object) -> np.random.Generator:
    """An own random stream for each key; hashing keeps neighbouring seeds and epochs unrelated."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16], "little"))
