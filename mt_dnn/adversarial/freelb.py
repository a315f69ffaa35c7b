"""freelb: several ascent steps whose backward passes also train the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, free_passes
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.view import View


class FreeLBOptions(BallOptions):
    """Free large-batch adversarial training; ``passes`` counts pairs of a forward and a backward pass."""

    mode: Literal["freelb"] = "freelb"
    include_clean: bool = Field(False, description="one pass more, at δ = 0")


class FreeLB(Adversary[FreeLBOptions]):
    """K losses l(f(x + δ_t), y)/K; ∇_δ comes from the backward pass that the caller makes anyway.

    δ_{t+1} = Π_{‖δ‖_F ≤ ε}(δ_t + α g/‖g‖_F), norms per sentence (Zhu et al. 2020, box 1).
    """

    options_type = FreeLBOptions

    @property
    def passes(self) -> int:
        return self.options.passes + self.options.include_clean

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        yield from free_passes(network, options, share=1 / self.passes, include_clean=options.include_clean)
