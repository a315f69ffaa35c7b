"""rdrop: consistency of two passes that differ in their dropout masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mt_dnn.adversarial.base import Adversary, DivergenceName, Options, View
from mt_dnn.losses import StopGradient


class RDropOptions(Options):
    """Regularized dropout."""

    mode: Literal["rdrop"] = "rdrop"
    weight: NonNegativeFloat = Field(1.0, description="α, weight of the regulariser")
    divergence: DivergenceName | None = Field("kl", description="taken both ways; null: the task's adv_loss")
    stop_gradient: StopGradient = Field("none", description="none: the term trains both of its arguments")


class RDrop(Adversary[RDropOptions]):
    """½(l₁ + l₂) + α · ½(d(z₁, z₂) + d(z₂, z₁)), d = KL; mse for regression (Liang et al. 2021, eq. 4)."""

    options_type = RDropOptions

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        state = network.upto(0)
        one, other = network.resume(torch.cat([state, state]), 0).chunk(2)
        there, back = (
            network.divergence(a, b, name=options.divergence, stop_gradient=options.stop_gradient)
            for a, b in ((one, other), (other, one))
        )
        regularizer = 0.5 * (there + back)
        network.report("regularizer", regularizer)
        yield 0.5 * (network.loss(one) + network.loss(other)) + options.weight * regularizer
