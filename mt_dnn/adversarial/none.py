"""none: plain training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from mt_dnn.adversarial.base import Adversary, Options
from mt_dnn.adversarial.view import View


class NoneOptions(Options):
    """Settings of plain training."""

    mode: Literal["none"] = "none"


class NoAdversary(Adversary[NoneOptions]):
    """loss = l(f(x), y)."""

    options_type = NoneOptions

    def __call__(self, network: View) -> Iterator[Tensor]:
        yield network.loss(network.resume(network.upto(0), 0))
