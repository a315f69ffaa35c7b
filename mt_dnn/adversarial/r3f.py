"""r3f: robust representations through regularized fine-tuning. Random noise should not change the output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from mt_dnn.adversarial.base import LEVELS, MEASURES, STOP_GRADIENT, DivergenceName, LevelName, Options, Regularized
from mt_dnn.adversarial.perturbation import gaussian, report_size, uniform
from mt_dnn.adversarial.view import View
from mt_dnn.tasks.losses import StopGradient


class R3FOptions(Options):
    """Settings of r3f."""

    mode: Literal["r3f"] = "r3f"
    level: LevelName = Field(
        "words", description="what z is added to: word embeddings, or the output of the whole embedding module"
    )
    noise: Literal["uniform", "normal"] = Field("uniform", description="U(−ε, ε) or N(0, ε²)")
    epsilon: NonNegativeFloat = Field(1e-5, description="ε, size of the noise")
    weight: NonNegativeFloat = Field(1.0, description="λ, weight of the regulariser")
    divergence: DivergenceName | None = Field(
        "sym_kl",
        description=f"KL_S, the measure that compares outputs: {MEASURES}. null: adv_loss in the task file; "
        "a regression task has no regulariser",
    )
    stop_gradient: StopGradient = Field("none", description=STOP_GRADIENT)


class R3F(Regularized[R3FOptions]):
    """l(f(x), y) + λ · KL_S(f(x + z), f(x)) with noise z (Aghajanyan et al. 2021, section 3).

    KL_S is the symmetric KL divergence. A regression task has no regulariser.
    """

    options_type = R3FOptions

    def cost_floor(self, blocks: float) -> float:
        return 1.0 if self.task.type.answer == "number" else 2.0

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        level = LEVELS[options.level]
        state = network.upto(level)
        if self.task.type.answer == "number":
            yield network.loss(network.resume(state, level))
            return
        noise = (uniform if options.noise == "uniform" else gaussian)(network, state, options.epsilon)
        clean, perturbed = network.resume(torch.cat([state, state + noise]), level).chunk(2)
        regularizer = self.regularizer(network, clean, perturbed)
        report_size(network, noise, state)
        network.report_loss("regularizer", regularizer)
        yield network.loss(clean) + options.weight * regularizer

    def clean_passes(self, network: View) -> tuple[Tensor, Tensor]:
        level = LEVELS[self.options.level]
        state = network.upto(level)
        return network.resume(state, level), network.resume(state, level)
