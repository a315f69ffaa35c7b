"""One training step: from the batches of an update to new weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from mt_dnn.training.precision import LossScaler, autocast
from mt_dnn.training.surgery import PCGrad
from mt_dnn.training.word_gradients import DenseGradients, as_rows, clip_gradients

T = TypeVar("T", Tensor, float)


@dataclass(kw_only=True, eq=False)
class UpdatePart:
    """One batch in an update.

    Args:
        adversary: yields the batch's losses.
        view: what the adversary sees of the network and the batch.
        weight: the factor on each of these losses.
        precision: the number type of forward passes, a key of ``AUTOCAST_TYPES`` (precision.py).
        measures_dropout_floor: whether to log the regulariser at δ = 0, which dropout alone causes (base.py).
        keeps_casts: see ``autocast``. With fsdp the casts would hold the gathered weights of all blocks at once.
    """

    adversary: Adversary[Any]
    view: View
    weight: Tensor | float
    precision: str
    measures_dropout_floor: bool
    keeps_casts: bool = True

    def __post_init__(self) -> None:
        self.task, self.device = self.view.batch.task, self.view.batch.input_ids.device
        self.losses = self.adversary(self.view)
        self.loss = torch.zeros((), device=self.device)  # what the batch has added, in the units of the head

    def backward(self, scaler: LossScaler) -> Tensor:
        """Makes the next pass, forward and backward.

        Returns:
            What the pass adds to the loss of the update, a scalar in the user's units.
        """
        with self._autocast():
            loss = next(self.losses)
        # If an optimizer step follows each pass, each pass gives the batch's whole loss, so the mean is added.
        share = 1 / self.adversary.passes if self.adversary.steps_each_pass else 1.0
        if self.measures_dropout_floor:  # before an optimizer step changes the weights that gave this loss
            with self._autocast():
                self.adversary.measure_dropout_floor(self.view)
        loss = loss * self.weight
        scaler.scale(loss).backward()
        added = loss.detach() * share
        self.loss += added
        return added * self.view.units.squared

    def finish(self) -> None:
        """Lets the adversary run the code after its last loss. Then reports the batch's loss for the log."""
        with self._autocast():
            next(self.losses, None)
        decisions = self.view.batch.weight
        if decisions:  # a rank without an example has no loss
            mean = self.loss * (self.view.units.squared / self.weight)
            self.view.telemetry.mean(f"loss/{self.task}", mean, decisions)

    def _autocast(self) -> torch.autocast:
        return autocast(self.precision, self.device, keeps_casts=self.keeps_casts)


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Holds what every training step uses: model, optimizer, schedule, and one adversary per task.

    Create it once per run and call it once per update. ``dataclasses.replace`` makes one with other parts.

    Args:
        parallel: the model, wrapped where several ranks train it together.
        tasks: the training tasks by name.
        adversaries: the adversary of each task, by the same names.
        optimizer: updates the weights.
        schedule: sets the learning rate after each update.
        clip_norm: the largest norm of the gradient of all weights; None: gradients are not clipped.
        precision: the number type of forward passes, a key of ``AUTOCAST_TYPES``.
        scaler: multiplies losses in fp16, so that small gradients do not become 0.
        average: a copy of the model with averaged weights; None if no adversary asks for one.
        balance: gives each task a factor on its losses.
        surgery: changes the gradients of each task before they are added; None: adds them unchanged.
        dropout_floor_every_steps: updates between two measurements of the dropout floor (base.py); None: never.
        figures_every_steps: updates between two with figures of the adversary for the log. The last one has them too.
        total_steps: updates of the run; None: the last one is not known.
        distillation: weight and temperature of soft labels in the loss.
        word_rows: computes the gradient of the word embeddings as rows (word_gradients.py), on one CPU without surgery.
        dense_gradients: gives the optimizer dense gradients in place of rows.
    """

    parallel: Parallel
    tasks: Mapping[str, TaskDef]
    adversaries: Mapping[str, Adversary[Any]]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    clip_norm: float | None = 1.0
    precision: str = "fp32"
    scaler: LossScaler = field(default_factory=lambda: LossScaler("cpu", enabled=False))
    average: WeightAverage | None = None
    balance: LossBalance = field(default_factory=LossBalance)
    surgery: PCGrad | None = None
    dropout_floor_every_steps: int | None = None
    figures_every_steps: int = 1
    total_steps: int | None = None
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    word_rows: bool = True
    dense_gradients: DenseGradients = field(default_factory=DenseGradients)

    @property
    def model(self) -> Model:
        """The model without the wrapper for several ranks."""
        return self.parallel.model

    def __call__(self, update: Sequence[Batch], step: int = 0) -> tuple[Tensor, Tensor, Telemetry]:
        """Makes one update, number ``step`` of the run, counted from 0.

        A batch counts by its ``loss_weight``, its factor of ``balance`` and its share of the update's examples.

        Returns:
            Loss, gradient norm before clipping, and telemetry. They stay on the device, because reading them would
            wait for it. The loss is that of this rank's examples times the number of ranks, so its mean over ranks is
            the loss of the update.
        """
        # By task: loss_weight · examples of the task / examples of the update, on all ranks.
        examples = sum(batch.global_size for batch in update)
        shares = sum_by_task(
            (batch.task, self.tasks[batch.task].loss_weight * batch.global_size / examples) for batch in update
        )
        # The factor on the learning rate: the mean of ``lr_scale`` over the update's examples.
        lr_scale = sum(self.tasks[batch.task].lr_scale * batch.global_size for batch in update) / examples

        # Forward and backward passes. Without surgery an optimizer step follows each round. With surgery the gradients
        # of each round are stored, and one step follows at the end.
        parts = self._parts(update, examples, step)
        scale, device = self.scaler.get_scale(), update[0].input_ids.device
        gives_rows = self.word_rows and self.surgery is None and not self.parallel.shared and device.type == "cpu"
        loss = torch.zeros((), device=device) + self.balance.penalty(shares)  # which is for the log only
        for passes in rounds_of(parts, by_task=self.surgery is not None):
            for number, part in enumerate(passes, 1):
                # Gradients are summed over ranks only in the last pass of a round: each sum costs communication.
                self.parallel.synchronise(number == len(passes))
                with as_rows(self.model, enabled=gives_rows):
                    loss += part.backward(self.scaler)
            self.parallel.end_of_backward()
            if self.surgery is None:
                grad_norm = self._apply_gradients(lr_scale)
            else:
                self.surgery.store_gradients(self._parameters)
        if self.surgery is not None:
            self.surgery.set_gradients(update[0].share.seed)
            grad_norm = self._apply_gradients(lr_scale)

        # Figures for the log.
        telemetry = Telemetry()
        for part in parts:
            part.finish()
            telemetry.add(part.view.telemetry)

        # In fp16 an overflowing gradient lowers the scale, and its optimizer step is skipped. Then schedule and balance
        # wait too.
        if self.scaler.get_scale() >= scale:
            self.schedule.step()
            self.balance.update(sum_by_task((part.task, part.loss) for part in parts), shares)
        if self.average is not None:
            self.average.update(self.model, step)
        return loss, grad_norm, telemetry

    def _parts(self, update: Sequence[Batch], examples: int, step: int) -> list[UpdatePart]:
        """The parts of an update, one per batch. ``examples``: how many examples the update has on all ranks."""
        adversaries = {batch.task: present_adversary(self.adversaries[batch.task], step) for batch in update}
        floor_every = self.dropout_floor_every_steps
        measures_floor = floor_every is not None and step % floor_every == 0
        is_logged = (step + 1) % self.figures_every_steps == 0 or step + 1 == self.total_steps
        parts = []
        for batch in update:
            task = self.tasks[batch.task]
            view = View(
                model=self.model,
                batch=batch,
                task=task,
                telemetry=Telemetry(),
                average=None if self.average is None else self.average.model,
                scale=self.scaler.get_scale(),
                parallel_resume=self.parallel.resume,
                steps_each_pass=any(adversary.steps_each_pass for adversary in adversaries.values()),
                distillation=self.distillation,
                reports=measures_floor or is_logged,
            )
            weight = task.loss_weight * batch.weight * world_size() / examples * self.balance.factor(task.name)
            part = UpdatePart(
                adversary=adversaries[batch.task],
                view=view,
                weight=weight,
                precision=self.precision,
                measures_dropout_floor=measures_floor,
                keeps_casts=not self.parallel.gathers,
            )
            parts.append(part)
        return parts

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _apply_gradients(self, lr_scale: float) -> Tensor:
        """Clips the gradients, makes an optimizer step and clears the gradients. Returns the norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        norm = clip_gradients(parameters, self.clip_norm)
        with scaled_lr(self.optimizer, lr_scale), self.dense_gradients.of(parameters):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        for parameter in parameters:  # zero_grad of apex's optimizers takes no argument
            parameter.grad = None
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def present_adversary(adversary: Adversary[Any], step: int) -> Adversary[Any]:
    """The adversary at update ``step``. In the first ``warm_start_steps`` updates it is plain training."""
    begun = step >= adversary.options.warm_start_steps
    return adversary if begun else NoAdversary(NoneOptions(), adversary.task)


def rounds_of(parts: Sequence[UpdatePart], *, by_task: bool) -> list[list[UpdatePart]]:
    """Orders the backward passes in rounds. A batch appears once for each pass of its adversary.

    Normally all passes form one round. With ``by_task`` the passes of each task form a round, which surgery needs. If
    an optimizer step has to follow each pass, round k holds the k-th pass of each batch. ``by_task`` has no effect
    then; ``build_surgery`` refuses this combination.
    """
    if any(part.adversary.steps_each_pass for part in parts):
        most = max(part.adversary.passes for part in parts)
        return [[part for part in parts if number < part.adversary.passes] for number in range(most)]
    rounds: dict[str, list[UpdatePart]] = {}
    for part in parts:
        rounds.setdefault(part.task if by_task else "", []).extend([part] * part.adversary.passes)
    return list(rounds.values())


def sum_by_task(values: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Adds up the values of each task. ``values``: pairs of a task's name and a value."""
    sums: dict[str, Any] = {}
    for task, value in values:
        sums[task] = sums.get(task, 0.0) + value
    return sums


@contextmanager
def scaled_lr(optimizer: torch.optim.Optimizer, scale: float) -> Iterator[None]:
    """Multiplies every learning rate by ``scale`` inside the block."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr * scale
    yield
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr
