"""One training step: from the batches of an update to new weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial import Adversary, View
from mt_dnn.batch import Batch
from mt_dnn.losses import DIVERGENCES, LOSSES
from mt_dnn.model import Model

AUTOCAST_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Everything a step needs that stays the same over the run."""

    model: Model
    tasks: dict[str, TaskDef]
    adversary: Adversary
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float | None = 1.0
    precision: str = "fp32"
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))

    def __call__(self, update: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """Runs one update; returns its loss and gradient norm as tensors, so that nothing waits for the device.

        Each batch counts by its share of the update's examples, so unequal last batches weigh what they hold.
        """
        examples = sum(batch.size for batch in update)
        total = torch.zeros((), device=update[0].input_ids.device)
        for batch in update:
            weight = self.tasks[batch.task].loss_weight * batch.size / examples
            for loss in self._losses(batch):
                self.scaler.scale(loss * weight).backward()
                total += loss.detach() * weight
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        lr_scale = sum(self.tasks[batch.task].lr_scale * batch.size for batch in update) / examples
        scale = self.scaler.get_scale()
        with scaled_lr(self.optimizer, lr_scale):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # a step skipped for an overflow leaves the schedule where it is
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm

    def _losses(self, batch: Batch) -> Iterator[Tensor]:
        """The adversary's losses; the autocast region is left before each backward pass."""
        losses = self.adversary(view(self.model, batch, self.tasks[batch.task]))
        while True:
            with autocast(self.precision, batch.input_ids.device):
                loss = next(losses, None)
            if loss is None:
                return
            yield loss


def view(model: Model, batch: Batch, task: TaskDef) -> View:
    """What the adversary may see of the network on this batch."""
    loss, divergence = LOSSES[task.loss], DIVERGENCES[task.adv_loss]
    assert batch.labels is not None
    labels: Tensor = batch.labels
    resume: Callable[[Tensor, int], Tensor] = lambda state, level: model.resume(state, level, batch)  # noqa: E731
    return View(
        upto=lambda level: model.upto(level, batch),
        resume=resume,
        loss=lambda logits: loss(logits, labels),
        divergence=divergence,
    )


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
