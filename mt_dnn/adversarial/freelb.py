"""freelb: free large-batch adversarial training. Each pass of the ascent also gives gradients to the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, free_passes
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.view import View


class FreeLBOptions(BallOptions):
    """Settings of freelb; ``passes`` is the number of forward and backward passes."""

    mode: Literal["freelb"] = "freelb"
    include_clean: bool = Field(False, description="add one pass, at δ = 0")


class FreeLB(Adversary[FreeLBOptions]):
    """K losses l(f(x + δ_t), y)/K, where δ_{t+1} = Π_{‖δ‖_F ≤ ε}(δ_t + α g/‖g‖_F) (Zhu et al. 2020, box 1).

    Norms are per sentence. g = ∇_δ comes from the backward pass that also gives the gradients of the weights.
    """

    options_type = FreeLBOptions

    @property
    def passes(self) -> int:
        return self.options.passes + self.options.include_clean

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        yield from free_passes(network, options, share=1 / self.passes, include_clean=options.include_clean)
