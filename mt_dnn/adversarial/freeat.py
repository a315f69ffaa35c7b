"""freeat: free adversarial training, an optimizer step after each ascent step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, free_passes
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.view import View


class FreeATOptions(BallOptions):
    """Free adversarial training; ``passes`` is how often a batch is replayed, each time with an optimizer step."""

    mode: Literal["freeat"] = "freeat"


class FreeAT(Adversary[FreeATOptions]):
    """K losses l(f(x + δ_t), y), an optimizer step after each; δ carries over (Shafahi et al. 2019, box 1)."""

    options_type = FreeATOptions
    steps_each_pass = True

    @property
    def passes(self) -> int:
        return self.options.passes

    def __call__(self, network: View) -> Iterator[Tensor]:
        yield from free_passes(network, self.options)
