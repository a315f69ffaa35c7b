"""What an adversary sees of the network and of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.draws import Draws
from mt_dnn.encoders.dropout import Masks
from mt_dnn.encoders.encoder import Level
from mt_dnn.tasks.losses import DIVERGENCES, LOSSES, Reduction, StopGradient, task_loss
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.soft_labels import DistillationConfig, soft_loss
from mt_dnn.tasks.units import NoUnits, Units
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class View:
    """The network on one batch: B examples, T tokens, N decisions with C options each.

    In most task types an example is one decision, so N is B.

    ``average``: the model with averaged weights, if a mode asks for one.
    ``scale``: ``gradient`` multiplies a loss by this factor and divides the gradient by it, so that fp16 does not
    underflow.
    ``parallel_resume``: called instead of ``model.resume`` if several ranks train together.
    ``steps_each_pass``: an optimizer step follows each loss, so the weights change from one loss to the next.
    ``distillation``: weight and temperature of soft labels in the loss, if the batch has them.
    ``reports``: False: figures for the log are not computed. Counts are.
    """

    model: Model
    batch: Batch
    task: TaskDef
    telemetry: Telemetry
    average: Model | None = None
    scale: float = 1.0
    parallel_resume: Callable[[Tensor, Level, Batch], Tensor] | None = None
    steps_each_pass: bool = False
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    reports: bool = True

    def upto(self, level: Level, words: Tensor | None = None) -> Tensor:
        """The state at a level, (T, H): 0, the word embeddings; ``embeddings``; or r, the output of block r.

        The state is computed from ``words`` (T, H), by default from the word embeddings of the batch.
        """
        if level == 0:  # nothing is dropped yet
            return self.model.upto(level, self.batch, words)
        with self.masks.first_part(self.batch):
            return self.model.upto(level, self.batch, words)

    def resume(self, state: Tensor, level: Level, *, trains: bool = True) -> Tensor:
        """Logits (N, C) from the state (T, H) at a level.

        Several states of the batch may be concatenated, (n·T, H). Then the logits are (n·N, C) in the same order.
        ``trains``: whether the pass gives gradients of weights, which ranks sum. Else only ``gradient`` follows.
        """
        copies = len(state) // len(self.batch.input_ids)
        batch = self.batch.repeated(copies)
        with self.masks.last_part(batch, begins=level == 0):
            resume = self.parallel_resume if trains and self.parallel_resume is not None else self.model.resume
            return resume(state, level, batch)

    def averaged_logits(self) -> Tensor:
        """Logits (N, C) of the model with averaged weights, without dropout and without gradients."""
        assert self.average is not None
        with torch.no_grad():
            return self.average(self.batch)

    def loss(self, logits: Tensor, labels: Tensor | None = None, *, reduction: Reduction = "mean") -> Tensor:
        """The task's loss for the labels of the batch, with its soft labels, class weights and label smoothing.

        A batch without labels has soft labels, and they are the whole loss.
        ``labels`` (N,): other labels, such as wrong targets. Their loss is plain.
        ``reduction``: ``mean`` gives the mean over decisions, ``none`` the loss of each example, (B,).
        """
        weight, soft = self.distillation.weight, self.batch.soft
        if labels is not None:
            value = LOSSES[self.task.loss](logits, self.units.to_head(labels), reduction=reduction)
        elif soft is None or not weight:
            value = self._task_loss(logits, reduction)
        else:
            divergence, temperature = DIVERGENCES[self.task.kd_loss], self.distillation.temperature
            soft = self.units.to_head(soft)
            value = weight * soft_loss(logits, soft, divergence, temperature=temperature, reduction=reduction)
            if self.batch.labels is not None:
                value = (1 - weight) * self._task_loss(logits, reduction) + value
        return value if reduction == "mean" else self.batch.example_means(value)

    def _task_loss(self, logits: Tensor, reduction: Reduction) -> Tensor:
        return task_loss(self.task, logits, self.units.to_head(self.labels), reduction=reduction)

    @property
    def units(self) -> Units | NoUnits:
        """The units of numbers: labels are in the user's units, logits are in those of the head."""
        return self.model.units(self.batch.task)

    @cached_property
    def draws(self) -> Draws:
        """The random numbers of the batch."""
        return Draws(self.batch)

    @cached_property
    def masks(self) -> Masks:
        """The dropout masks of the batch."""
        return Masks(self.batch.share.seed, enabled=self.model.encoder.draws_masks)

    @property
    def labels(self) -> Tensor:
        """The labels of the batch, (N,)."""
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
        """The divergence ``name`` between two tensors of logits, each (N, C).

        The default is the task's ``adv_loss``, which a regression task always uses.
        ``reduction``: ``mean`` gives the mean over decisions, ``none`` the value of each example, (B,).
        """
        if name is None or self.task.type.answer == "number":
            name = self.task.adv_loss
        function = DIVERGENCES[name]
        value = function(clean, perturbed, stop_gradient=stop_gradient, reduction=reduction)
        return value if reduction == "mean" else self.batch.example_means(value)

    def gradient(self, loss: Tensor, of: Tensor, *, keep_graph: bool = False) -> Tensor:
        """∂loss/∂of in float32, in the shape of ``of``. No gradient of a weight is computed.

        ``keep_graph``: a later backward pass goes through the same graph.
        """
        with torch.autocast(of.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(loss * self.scale, of, retain_graph=keep_graph)
        return gradient.float() / self.scale

    def report(self, name: str, value: Tensor) -> None:
        """Adds a figure of this batch to the log: a mean over its decisions, or one value per example, (B,)."""
        if self.reports:
            weight = self.batch.counted if value.dim() else self.batch.weight
            self.telemetry.mean(name, value.detach().float().mean(), weight)

    def report_loss(self, name: str, value: Tensor) -> None:
        """Adds a part of the loss to the log, as ``report`` does, in the user's units."""
        if self.reports:
            self.report(name, value * self.units.squared)

    def count(self, name: str, value: Tensor) -> None:
        """Adds a number of cases to the log."""
        self.telemetry.count(name, value if self.batch.counted else value * 0)
