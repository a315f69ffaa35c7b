"""freeat: free adversarial training. Like FreeLB, but with an optimizer step after each pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, free_passes
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.view import View


class FreeATOptions(BallOptions):
    """Settings of freeat; ``passes`` is the number of optimizer steps for each batch."""

    mode: Literal["freeat"] = "freeat"


class FreeAT(Adversary[FreeATOptions]):
    """K losses l(f(x + δ_t), y) with an optimizer step after each (Shafahi et al. 2019, box 1).

    δ_{t+1} comes from δ_t by an ascent step, as in FreeLB.
    """

    options_type = FreeATOptions
    steps_each_pass = True

    @property
    def passes(self) -> int:
        return self.options.passes

    def __call__(self, network: View) -> Iterator[Tensor]:
        yield from free_passes(network, self.options)
