"""rdrop: consistency of two passes that differ in their dropout masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mt_dnn.adversarial.base import DivergenceName, Options, Regularized
from mt_dnn.adversarial.view import View
from mt_dnn.tasks.losses import StopGradient


class RDropOptions(Options):
    """Regularized dropout."""

    mode: Literal["rdrop"] = "rdrop"
    weight: NonNegativeFloat = Field(1.0, description="α, weight of the regulariser")
    divergence: DivergenceName | None = Field("kl", description="taken both ways; null: the task's adv_loss")
    stop_gradient: StopGradient = Field("none", description="none: the term trains both of its arguments")


class RDrop(Regularized[RDropOptions]):
    """½(l₁ + l₂) + α · ½(d(z₁, z₂) + d(z₂, z₁)), d = KL; mse for regression (Liang et al. 2021, eq. 4)."""

    options_type = RDropOptions

    def cost_floor(self, blocks: int) -> float:
        return 2.0

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        state = network.upto(0)
        one, other = network.resume(torch.cat([state, state]), 0).chunk(2)
        regularizer = self.regularizer(network, one, other)
        network.report("regularizer", regularizer)
        yield 0.5 * (network.loss(one) + network.loss(other)) + options.weight * regularizer

    def regularizer(self, network: View, clean: Tensor, perturbed: Tensor) -> Tensor:
        both = super().regularizer(network, clean, perturbed), super().regularizer(network, perturbed, clean)
        return 0.5 * (both[0] + both[1])
