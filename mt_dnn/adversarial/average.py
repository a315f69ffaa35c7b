"""Averaged weights, which SMART's Bregman proximal point needs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.vat import BregmanOptions
from mt_dnn.distributed.sharded import as_split, local_parts
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.units import new_units


class WeightAverage:
    """A second model with the moving average θ̄ of the trained weights θ.

    At the start θ̄ = θ. After each update θ̄ ← β θ̄ + (1 − β) θ (Jiang et al. 2020, eq. 5). The average moves once per
    update, also if the update makes several optimizer steps, or skips one because a gradient overflowed in fp16.
    """

    def __init__(self, model: Model, options: BregmanOptions, warmup_steps: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.options, self.warmup_steps = options, warmup_steps

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Moves the average towards the weights of ``model``. ``step``: the number of the update, counted from 0."""
        beta = self.options.beta if step < self.warmup_steps else self.options.beta_after_warmup
        averages, weights = local_parts(self.model.parameters()), local_parts(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - beta)
        for copied, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        return {name: value.contiguous() for name, value in self.model.state_dict().items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restores averaged weights. Full tensors are split over ranks as the model's weights are."""
        current, complete = self.model.state_dict(), {**new_units(self.model), **tensors}
        self.model.load_state_dict({name: as_split(value, current[name]) for name, value in complete.items()})


def build_average(model: Model, adversaries: Iterable[Adversary[Any]], warmup_steps: int) -> WeightAverage | None:
    """Builds the average for adversaries with the option ``bregman``. Returns None if no adversary has it.

    ``warmup_steps``: the first updates, in which the average uses ``beta``. Then it uses ``beta_after_warmup``.

    Raises:
        UserError: tasks ask for averages with different decays.
    """
    wanted = [adversary.options.bregman for adversary in adversaries if getattr(adversary.options, "bregman", None)]
    if not wanted:
        return None
    if len({(options.beta, options.beta_after_warmup) for options in wanted}) > 1:
        raise UserError("adversary.tasks: bregman.beta and beta_after_warmup have to be the same for all tasks")
    return WeightAverage(model, wanted[0], warmup_steps)
