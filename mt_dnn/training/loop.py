"""The training loop as a generator. It makes the updates, and its caller logs, evaluates and saves."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from data_utils.prepared import Prepared
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import local_batch
from mt_dnn.batches.draws import batch_seeds, seed_step
from mt_dnn.batches.plan import Plan
from mt_dnn.distributed.ranks import rank
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.step import Stepper

T = TypeVar("T")


@dataclass(frozen=True)
class Position:
    """How far a run has come."""

    step: int = 0  # updates made
    epoch: int = 0  # the current epoch, counted from 0
    update: int = 0  # updates made in the current epoch

    @property
    def current_epoch(self) -> int:
        """The epoch of the last update, counted from 1 as people do. 0: no update was made."""
        return self.epoch + (self.update > 0)


@dataclass(frozen=True)
class Step:
    """What is known about an update that was made. Tensors are still on the device."""

    position: Position  # after the update
    loss: Tensor  # the loss of this rank's examples times the number of ranks, a scalar
    grad_norm: Tensor  # before clipping, a scalar
    telemetry: Telemetry
    lr: float  # learning rate of the last parameter group, which holds heads
    examples: int  # on this rank
    tokens: int  # on this rank
    epoch_end: bool  # the update was the last one of its epoch
    last: bool  # the update was the last one of the run


def train(
    stepper: Stepper, splits: Mapping[str, Prepared], plan: Plan, *, device: torch.device, start: Position
) -> Iterator[Step]:
    """Makes the updates of the plan that come after ``start``. Yields a ``Step`` after each update.

    Args:
        splits: the training splits by task name.
    """
    stepper.model.train()
    updates = _updates(splits, plan, device, start)
    for position, epoch_end, update in updates if device.type == "cpu" else made_ahead(updates, device):
        lr = stepper.optimizer.param_groups[-1]["lr"]
        seed_step(plan.seed, position.step, rank())
        loss, grad_norm, telemetry = stepper(update, position.step)
        if epoch_end:
            for adversary in stepper.adversaries.values():
                adversary.end_epoch()
        step, epoch = position.step + 1, position.epoch
        yield Step(
            position=Position(step, epoch + 1, 0) if epoch_end else Position(step, epoch, position.update + 1),
            loss=loss,
            grad_norm=grad_norm,
            telemetry=telemetry,
            lr=lr,
            examples=sum(batch.counted for batch in update),
            tokens=sum(len(batch.input_ids) for batch in update if batch.counted),
            epoch_end=epoch_end,
            last=step == plan.total_steps,
        )


def _updates(
    splits: Mapping[str, Prepared], plan: Plan, device: torch.device, start: Position
) -> Iterator[tuple[Position, bool, list[Batch]]]:
    """Yields the batches of each update, on the device, its position, and whether it is the last of its epoch."""
    step = start.step
    for epoch in range(start.epoch, plan.epochs):
        first, count = start.update if epoch == start.epoch else 0, plan.updates_in(epoch)
        for index, planned in enumerate(islice(plan.epoch(epoch), first, None), first):
            if step == plan.total_steps:
                return
            seeds = batch_seeds(plan.seed, step, len(planned))
            update = [
                local_batch(splits[micro_batch.task], micro_batch, seed).to(device)
                for micro_batch, seed in zip(planned, seeds, strict=True)
            ]
            yield Position(step, epoch, index), index + 1 == count, update
            step += 1


def made_ahead(items: Iterator[T], device: torch.device) -> Generator[T, None, None]:
    """Yields the items. While the caller uses one, a thread makes the next, and may use the device.

    Raises:
        Exception: the iterator raised it.
    """
    prepare = None
    if device.type == "cuda":  # each thread has a present device of its own
        prepare = partial(torch.cuda.set_device, torch.cuda.current_device() if device.index is None else device.index)
    with ThreadPoolExecutor(1, "collate", prepare) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
