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
        # The weights of an encoder with an adapter never change, so both models have the same ones.
        fixed = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
        self.model = copy.deepcopy(model, fixed).eval().requires_grad_(False)
        self.fixed = [name for name, weight in model.named_parameters() if not weight.requires_grad]
        self.options, self.warmup_steps = options, warmup_steps

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Moves the average towards the weights of ``model``. ``step``: the number of the update, counted from 0."""
        beta = self.options.beta if step < self.warmup_steps else self.options.beta_after_warmup
        both = [(a, w) for a, w in zip(self.model.parameters(), model.parameters(), strict=True) if a is not w]
        averages, weights = (local_parts(parameters) for parameters in zip(*both, strict=True))
        torch._foreach_lerp_(averages, weights, 1 - beta)
        for copied, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by name, without those that never change."""
        return {name: v.contiguous() for name, v in self.model.state_dict().items() if name not in self.fixed}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Restores averaged weights. Full tensors are split over ranks as the model's weights are."""
        current = self.model.state_dict()
        complete = {**new_units(self.model), **{name: current[name] for name in self.fixed}, **tensors}
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
        raise UserError(
            "adversary.tasks: bregman.beta and beta_after_warmup differ between tasks; set them in adversary.bregman"
        )
    return WeightAverage(model, wanted[0], warmup_steps)
