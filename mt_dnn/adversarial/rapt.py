"""rapt: multi-layer random perturbation training. Noise on a hidden layer should not change the output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.adversarial.base import (
    LEVELS,
    MEASURES,
    REGRESSION,
    STOP_GRADIENT,
    DivergenceName,
    LevelName,
    Options,
    Regularized,
)
from mt_dnn.adversarial.perturbation import Scope, gaussian, report_size, unit
from mt_dnn.adversarial.view import View
from mt_dnn.encoders.encoder import Level
from mt_dnn.section import NonNegativeInt
from mt_dnn.tasks.losses import StopGradient
from mt_dnn.tasks.model import Model


class RAPTOptions(Options):
    """Settings of rapt."""

    mode: Literal["rapt"] = "rapt"
    max_layer: NonNegativeInt = Field(3, description="a block of 1 to max_layer is drawn per batch; 0: level, no block")
    level: LevelName = Field(
        "words",
        description="with max_layer 0, what δ is added to: word embeddings, or output of the whole embedding module",
    )
    magnitude: NonNegativeFloat = Field(2.0, description="η, largest entry of the perturbation")
    norm: Scope = Field("sentence", description="what ‖δ‖∞ is taken over: the whole example, or each token")
    weight: NonNegativeFloat = Field(1.0, description="α, weight of the regulariser")
    divergence: DivergenceName | None = Field(
        "kl",
        description=f"l_s, the measure that compares outputs: {MEASURES}. null: adv_loss in the task file; "
        f"{REGRESSION}",
    )
    stop_gradient: StopGradient = Field("target", description=STOP_GRADIENT)
    share_prefix: bool = Field(True, description="run what is below the perturbed state once, not twice")

    @model_validator(mode="after")
    def _all_read(self) -> RAPTOptions:
        self._refuse_unread(f"max_layer: {self.max_layer}", {"level"}, set() if self.max_layer else {"level"})
        return self


class RAPT(Regularized[RAPTOptions]):
    """l(f(x), y) + α · l_s(f_r(h_r), f_r(h_r + δ)), r ~ U{1..max_layer}, δ = η n/‖n‖∞, n ~ N(0, I).

    h_r is the output of block r, f_r the rest of the network (Pereira, Taya and Kobayashi 2021, box 1 and eq. 2).
    """

    options_type = RAPTOptions

    def cost_floor(self, blocks: float) -> float:
        level = (self.options.max_layer + 1) / 2 if self.options.max_layer else 0.0  # the mean of r
        return 2 - level / blocks if self.options.share_prefix else 2.0

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        level = self.level(network)
        if options.share_prefix:
            state = network.upto(level)
            delta = self.perturbation(state, network)
            clean, perturbed = network.resume(torch.cat([state, state + delta]), level).chunk(2)
        else:
            clean = network.resume(network.upto(0), 0)
            state = network.upto(level)
            delta = self.perturbation(state, network)
            perturbed = network.resume(state + delta, level)
        regularizer = self.regularizer(network, clean, perturbed)
        report_size(network, delta, state)
        network.report_loss("regularizer", regularizer)
        yield network.loss(clean) + options.weight * regularizer

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        if not self.options.share_prefix:
            return super().clean_passes(network)
        level = self.level(network)
        state = network.upto(level)
        first, second = network.resume(torch.cat([state, state]), level).chunk(2)
        return first, second

    @classmethod
    def prepare(cls, options: RAPTOptions, model: Model, task: str) -> None:
        if options.max_layer > model.encoder.num_layers:
            raise UserError(
                f"adversary.max_layer: {options.max_layer}, but the encoder has {model.encoder.num_layers} blocks; "
                "lower it"
            )
        if options.max_layer > 0 and model.encoder.mix is not None:
            raise UserError(
                "encoder.scalar_mix: the mix reads the states of all blocks, but rapt perturbs one of them and runs "
                "only the blocks above it; set encoder.scalar_mix=false or adversary.max_layer=0"
            )

    def level(self, network: View) -> Level:
        """Draws r, the first random number of a batch. With ``max_layer: 0`` the option ``level`` says where δ lies."""
        if self.options.max_layer:
            return network.draws.integer(1, self.options.max_layer)
        return LEVELS[self.options.level]

    def perturbation(self, state: Tensor, network: View) -> Tensor:
        """Draws δ, (T, H). The variance of the noise cancels, so δ does not depend on it."""
        noise = gaussian(network, state)
        return self.options.magnitude * unit(noise, network.batch, scope=self.options.norm, order="inf")
