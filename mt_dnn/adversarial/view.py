"""What an adversary sees of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.draws import Draws
from mt_dnn.tasks.losses import DIVERGENCES, LOSSES, Reduction, StopGradient
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.soft_labels import DistillationConfig, soft_loss
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class View:
    """The network on one batch of B examples, T tokens, N decisions with C options each; mostly N is B.

    ``average`` is the network of averaged weights, where a mode asks for one. ``scale`` multiplies an inner loss
    before it is differentiated (fp16), and divides the gradient. ``parallel`` stands in for ``model.resume`` where
    several ranks train together. ``steps_each_pass``: the weights may change from one loss to the next.
    ``distillation`` says how soft labels count, where the batch has them.
    """

    model: Model
    batch: Batch
    task: TaskDef
    telemetry: Telemetry
    average: Model | None = None
    scale: float = 1.0
    parallel: Callable[[Tensor, int, Batch], Tensor] | None = None
    steps_each_pass: bool = False
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def upto(self, level: int, words: Tensor | None = None) -> Tensor:
        """State at a level, (T, H): 0 = word embeddings, r = output of block r; ``words`` replace the table's."""
        return self.model.upto(level, self.batch, words)

    def resume(self, state: Tensor, level: int) -> Tensor:
        """Logits (N, C) from the state (T, H) at a level; n copies of the state end to end give n copies of logits."""
        copies = len(state) // len(self.batch.input_ids)
        return (self.parallel or self.model.resume)(state, level, self.batch.repeated(copies))

    def averaged_logits(self) -> Tensor:
        """Logits (N, C) of the averaged weights, without dropout and without a graph."""
        assert self.average is not None
        with torch.no_grad():
            return self.average(self.batch)

    def loss(self, logits: Tensor, labels: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
        """The task's loss for its own labels, hard and soft, or for others (N,).

        The mean over decisions; ``none``: per example, (B,).
        """
        value = LOSSES[self.task.loss](logits, self.labels if labels is None else labels, reduction=reduction)
        weight, temperature = self.distillation.weight, self.distillation.temperature
        if labels is None and weight and self.batch.soft is not None:
            divergence = DIVERGENCES[self.task.kd_loss]
            soft = soft_loss(logits, self.batch.soft, divergence, temperature=temperature, reduction=reduction)
            value = (1 - weight) * value + weight * soft
        return value if reduction == "mean" else self.batch.example_means(value)

    @cached_property
    def draws(self) -> Draws:
        """The random numbers of this batch."""
        return Draws(self.batch)

    @property
    def labels(self) -> Tensor:
        """(N,)"""
        assert self.batch.labels is not None  # a training batch
        return self.batch.labels

    def divergence(
        self,
        clean: Tensor,
        perturbed: Tensor,
        *,
        name: str | None = None,
        stop_gradient: StopGradient = "target",
        reduction: Reduction = "mean",
    ) -> Tensor:
        """``name`` between two logits (N, C); by default, and for regression always, the task's own ``adv_loss``.

        The mean over decisions; ``none``: per example, (B,).
        """
        own = name is None or self.task.type.answer == "number"
        function = DIVERGENCES[self.task.adv_loss if own else name]  # type: ignore[index]
        value = function(clean, perturbed, stop_gradient=stop_gradient, reduction=reduction)
        return value if reduction == "mean" else self.batch.example_means(value)

    def gradient(self, loss: Tensor, of: Tensor, *, keep_graph: bool = False) -> Tensor:
        """∂loss/∂of in float32 and nothing else: no gradient of any weight is computed."""
        with torch.autocast(of.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(loss * self.scale, of, retain_graph=keep_graph)
        return gradient.float() / self.scale

    def report(self, name: str, value: Tensor) -> None:
        """A figure of this batch for the log: a mean over its decisions, or one figure per example, (B,)."""
        weight = self.batch.counted if value.dim() else self.batch.weight
        self.telemetry.mean(name, value.detach().float().mean(), weight)

    def count(self, name: str, value: Tensor) -> None:
        """A number of cases for the log."""
        self.telemetry.count(name, value if self.batch.counted else value * 0)
