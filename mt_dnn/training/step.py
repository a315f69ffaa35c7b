"""One training step: from the batches of an update to new weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.average import WeightAverage
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.none import NoAdversary, NoneOptions
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch
from mt_dnn.distributed.ranks import world_size
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.soft_labels import DistillationConfig
from mt_dnn.telemetry import Telemetry
from mt_dnn.training.balance import LossBalance
from mt_dnn.training.parallel import Parallel
from mt_dnn.training.surgery import PCGrad

T = TypeVar("T", Tensor, float)


AUTOCAST_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Everything a step needs that stays the same over the run; ``adversaries`` by task name."""

    model: Model
    tasks: Mapping[str, TaskDef]
    adversaries: Mapping[str, Adversary[Any]]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float | None = 1.0
    precision: str = "fp32"
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    average: WeightAverage | None = None
    balance: LossBalance = field(default_factory=LossBalance)
    surgery: PCGrad | None = None
    dropout_floor_every_steps: int | None = None
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    alone: bool = False

    @cached_property
    def parallel(self) -> Parallel:
        """The model as all ranks train it."""
        return Parallel(self.model, alone=self.alone)

    def __call__(self, update: Sequence[Batch], step: int = 0) -> tuple[Tensor, Tensor, Telemetry]:
        """Runs one update, the ``step``-th of the run from 0; returns its loss, gradient norm and telemetry as tensors.

        So nothing waits for the device. Each batch counts by its share of the update's examples on all ranks; the loss
        is this rank's part of it times the number of ranks, as DistributedDataParallel averages gradients.
        """
        examples = sum(batch.global_size for batch in update)
        lr_scale = sum(self.tasks[batch.task].lr_scale * batch.global_size for batch in update) / examples
        shares = by_task(
            update, [self.tasks[batch.task].loss_weight * batch.global_size / examples for batch in update]
        )
        telemetry = Telemetry()
        adversaries = [self._adversary(batch, step) for batch in update]
        stepwise = any(adversary.steps_each_pass for adversary in adversaries)
        runs = [
            self._run(adversary, batch, examples, step, telemetry, stepwise)
            for adversary, batch in zip(adversaries, update, strict=True)
        ]
        total, scale = torch.zeros((), device=update[0].input_ids.device), self.scaler.get_scale()
        total += self.balance.penalty(shares)
        parts = [torch.zeros_like(total) for _ in update]
        logged = [1 / one.passes if one.steps_each_pass else 1.0 for one in adversaries]  # one loss, replayed
        together = [range(len(update))]
        apart = [[i for i, batch in enumerate(update) if batch.task == task] for task in shares]
        for turns in rounds_of(adversaries, together if self.surgery is None else apart):
            for index, synchronise in turns:
                self.parallel.synchronise(synchronise)
                loss = next(runs[index])
                self.scaler.scale(loss).backward()
                part = loss.detach() * logged[index]
                total += part
                parts[index] += part
            self.parallel.end_of_backward()
            if self.surgery is None:
                norm = self._apply_gradients(lr_scale)
            else:
                self.surgery.take(self._parameters)
        if self.surgery is not None:
            self.surgery.give(0 if update[0].share is None else update[0].share.seed)
            norm = self._apply_gradients(lr_scale)
        for losses in runs:
            next(losses, None)  # what comes after the last loss
        if self.scaler.get_scale() >= scale:  # an update skipped for an overflow leaves the schedule where it is
            self.schedule.step()
            self.balance.update(by_task(update, parts), shares)
        if self.average is not None:
            self.average.update(self.model, step)
        return total, norm, telemetry

    def _adversary(self, batch: Batch, step: int) -> Adversary[Any]:
        adversary = self.adversaries[batch.task]
        if step < adversary.options.warm_start_steps:
            return NoAdversary(NoneOptions(), adversary.task)
        return adversary

    def _run(
        self,
        adversary: Adversary[Any],
        batch: Batch,
        examples: int,
        step: int,
        telemetry: Telemetry,
        steps_each_pass: bool,
    ) -> Iterator[Tensor]:
        """The adversary's losses times the batch's weight; the autocast region is left before each backward pass."""
        task, own = self.tasks[batch.task], Telemetry()
        network = View(
            model=self.model,
            batch=batch,
            task=task,
            telemetry=own,
            average=None if self.average is None else self.average.model,
            scale=self.scaler.get_scale(),
            parallel=self.parallel.resume,
            steps_each_pass=steps_each_pass,
            distillation=self.distillation,
        )
        losses, every = adversary(network), self.dropout_floor_every_steps
        while True:
            with autocast(self.precision, batch.input_ids.device):
                loss = next(losses, None)
            if loss is None:
                break
            if every is not None and step % every == 0 and "regularizer" in own.sums:
                self._measure_dropout_floor(network, adversary)  # of the same weights as the regulariser
            yield loss * (task.loss_weight * batch.weight * world_size() / examples * self.balance.factor(task.name))
        telemetry.add(own)

    @torch.no_grad()
    def _measure_dropout_floor(self, network: View, adversary: Any) -> None:
        """The regulariser at δ = 0: what dropout masks alone make of it. Leaves no trace in training."""
        device = network.batch.input_ids.device
        buffers = [(buffer, buffer.clone()) for buffer in self.model.heads.buffers()]  # of power iterations
        fresh = replace(network, parallel=None)  # draws again what the batch has drawn
        with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(self.precision, device):
            floor = adversary.regularizer(fresh, *adversary.clean_passes(fresh))
        network.report("dropout_floor", floor)
        for buffer, before in buffers:
            buffer.copy_(before)

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _apply_gradients(self, lr_scale: float) -> Tensor:
        """Clips, makes an optimizer step, clears the gradients; returns their norm."""
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        with scaled_lr(self.optimizer, lr_scale):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def by_task(update: Sequence[Batch], values: Sequence[T]) -> dict[str, T]:
    """Sums of what the batches of an update have, for each task."""
    sums: dict[str, Any] = {}
    for batch, value in zip(update, values, strict=True):
        sums[batch.task] = sums.get(batch.task, 0.0) + value
    return sums


def rounds_of(adversaries: Sequence[Adversary[Any]], groups: Sequence[Sequence[int]]) -> list[list[tuple[int, bool]]]:
    """Which batch makes a pass when, and whether ranks then synchronise gradients: in the last one of a round.

    There is a round for each group of batches, or, if an adversary makes an optimizer step after it, for each pass.
    """
    passes = [adversary.passes for adversary in adversaries]
    if any(adversary.steps_each_pass for adversary in adversaries):
        rounds = [[i for i, own in enumerate(passes) if number < own] for number in range(max(passes))]
    else:
        rounds = [[i for i in group for _ in range(passes[i])] for group in groups]
    return [[(i, turn == len(turns)) for turn, i in enumerate(turns, 1)] for turns in rounds]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Mixed precision around forward passes; weights stay in float32."""
    dtype = AUTOCAST_TYPES[precision]
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def scaled_lr(optimizer: torch.optim.Optimizer, scale: float) -> Iterator[None]:
    """All learning rates times the scale, for one optimizer step."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr * scale
    yield
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
