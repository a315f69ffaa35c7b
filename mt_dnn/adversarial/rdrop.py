"""rdrop: regularized dropout. Two passes with different dropout masks should give the same output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mt_dnn.adversarial.base import MEASURES, REGRESSION, STOP_GRADIENT, DivergenceName, Options, Regularized
from mt_dnn.adversarial.view import View
from mt_dnn.tasks.losses import StopGradient


class RDropOptions(Options):
    """Settings of rdrop."""

    mode: Literal["rdrop"] = "rdrop"
    weight: NonNegativeFloat = Field(1.0, description="α, weight of the regulariser; half of the paper's")
    divergence: DivergenceName | None = Field(
        "kl",
        description=f"d, the measure that compares outputs, taken in both directions: {MEASURES}. null: adv_loss in "
        f"the task file; {REGRESSION}",
    )
    stop_gradient: StopGradient = Field("none", description=STOP_GRADIENT)


class RDrop(Regularized[RDropOptions]):
    """½(l(z₁, y) + l(z₂, y)) + α · ½(d(z₁, z₂) + d(z₂, z₁)) with two outputs z of one input.

    This is half of eq. 4 of Liang et al. 2021, whose α is twice this one.

    d is the KL divergence. In a regression task it is the squared error.
    """

    options_type = RDropOptions

    def cost_floor(self, blocks: float) -> float:
        return 2.0

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        state = network.upto(0)
        first, second = network.resume(torch.cat([state, state]), 0).chunk(2)
        regularizer = self.regularizer(network, first, second)
        network.report_loss("regularizer", regularizer)
        yield 0.5 * (network.loss(first) + network.loss(second)) + options.weight * regularizer

    def regularizer(self, network: View, clean: Tensor, perturbed: Tensor) -> Tensor:
        """½(d(z₁, z₂) + d(z₂, z₁)), a scalar, from two tensors of logits, each (N, C)."""
        forth, back = super().regularizer(network, clean, perturbed), super().regularizer(network, perturbed, clean)
        return 0.5 * (forth + back)
