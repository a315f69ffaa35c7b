"""train(): a generator of events. The caller logs, evaluates and saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_utils.prepare import Prepared
from mt_dnn.batch import Batch, collate, divided
from mt_dnn.config import RunConfig
from mt_dnn.distributed import rank, world_size
from mt_dnn.draws import seed_of
from mt_dnn.sampling import MicroBatch, plan_epoch, updates_per_epoch
from mt_dnn.step import Stepper
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class Position:
    """Where a run stands: ``step`` updates done, ``update`` of them in the current epoch (0-based epoch)."""

    step: int = 0
    epoch: int = 0
    update: int = 0


@dataclass(frozen=True)
class Step:
    """One update was made; ``position`` is where the run stands after it. Its figures are still on the device."""

    position: Position
    loss: Tensor
    grad_norm: Tensor
    telemetry: Telemetry
    lr: float
    examples: int
    tokens: int
    epoch_end: bool
    last: bool


def epoch_plan(config: RunConfig, sizes: Mapping[str, int], epoch: int) -> list[tuple[MicroBatch, ...]]:
    """The updates of an epoch, a pure function of the configuration and the epoch."""
    return plan_epoch(sizes, epoch=epoch, **_plan_options(config, sizes))


def total_steps(config: RunConfig, sizes: Mapping[str, int]) -> int:
    """Updates of the whole run."""
    planned = sum(updates_per_epoch(sizes, **_plan_options(config, sizes)))
    return min(planned, config.train.max_steps or planned)


def _plan_options(config: RunConfig, sizes: Mapping[str, int]) -> dict[str, Any]:
    return {
        "config": config.sampling,
        "batch_sizes": {name: config.train.batch_sizes.get(name, config.train.batch_size) for name in sizes},
        "accumulate": config.train.accumulate,
        "mix_tasks": config.train.mix_tasks,
        "seed": config.seed,
        "epochs": config.train.epochs,
    }


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Makes dropout a function of (seed, step, rank), so resuming needs no generator state."""
    torch.manual_seed(seed_of(seed, step, rank))


def batch_seeds(seed: int, step: int, count: int) -> list[int]:
    """A seed for the noise of each batch of an update."""
    return np.random.SeedSequence((seed, step)).generate_state(count).tolist()


def own_share(split: Prepared, part: MicroBatch, seed: int) -> Batch:
    """This rank's part of a batch."""
    rows, bounds = part.rows, split.decisions
    decisions = None if bounds is None else int((bounds[rows + 1] - bounds[rows]).sum())
    if split.words is not None:
        decisions = sum(len(split.masked(row, seed=seed, place=place)[0]) for place, row in enumerate(rows))
    share = divided(split.lengths[rows], rank(), world_size(), seed, decisions=decisions)
    return collate(split, rows, task=part.task, share=share)


def train(
    stepper: Stepper, splits: Mapping[str, Prepared], config: RunConfig, *, device: torch.device, start: Position
) -> Iterator[Step]:
    """Runs the updates that remain after ``start``; ``splits`` are the training splits by task name."""
    sizes = {name: len(split) for name, split in splits.items()}
    last = total_steps(config, sizes)
    step = start.step
    stepper.model.train()
    for epoch in range(start.epoch, config.train.epochs):
        plan = epoch_plan(config, sizes, epoch)
        for index in range(start.update if epoch == start.epoch else 0, len(plan)):
            if step == last:
                return
            seeds = batch_seeds(config.seed, step, len(plan[index]))
            update = [
                own_share(splits[part.task], part, seed).to(device)
                for part, seed in zip(plan[index], seeds, strict=True)
            ]
            lr = stepper.optimizer.param_groups[-1]["lr"]
            seed_step(config.seed, step, rank())
            loss, norm, telemetry = stepper(update, step)
            step += 1
            epoch_end = index + 1 == len(plan)
            if epoch_end:
                for adversary in stepper.adversaries.values():
                    adversary.end_epoch()
            yield Step(
                position=Position(step, epoch + 1, 0) if epoch_end else Position(step, epoch, index + 1),
                loss=loss,
                grad_norm=norm,
                telemetry=telemetry,
                lr=lr,
                examples=sum(batch.counted for batch in update),
                tokens=sum(len(batch.input_ids) for batch in update if batch.counted),
                epoch_end=epoch_end,
                last=step == last,
            )
