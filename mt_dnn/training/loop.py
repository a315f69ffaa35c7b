"""train(): a generator of events. The caller logs, evaluates and saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data_utils.prepared import Prepared
from mt_dnn.batches.collate import local_batch
from mt_dnn.batches.draws import batch_seeds, seed_step
from mt_dnn.batches.plan import Plan
from mt_dnn.distributed.ranks import rank
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.step import Stepper


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


def train(
    stepper: Stepper, splits: Mapping[str, Prepared], plan: Plan, *, device: torch.device, start: Position
) -> Iterator[Step]:
    """Runs the updates that remain after ``start``; ``splits`` are the training splits by task name."""
    step = start.step
    stepper.model.train()
    for epoch in range(start.epoch, plan.epochs):
        updates = plan.epoch(epoch)
        for index in range(start.update if epoch == start.epoch else 0, len(updates)):
            if step == plan.total_steps:
                return
            seeds = batch_seeds(plan.seed, step, len(updates[index]))
            update = [
                local_batch(splits[part.task], part, seed).to(device)
                for part, seed in zip(updates[index], seeds, strict=True)
            ]
            lr = stepper.optimizer.param_groups[-1]["lr"]
            seed_step(plan.seed, step, rank())
            loss, norm, telemetry = stepper(update, step)
            step += 1
            epoch_end = index + 1 == len(updates)
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
                last=step == plan.total_steps,
            )
