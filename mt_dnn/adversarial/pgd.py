"""pgd: projected gradient descent. Makes FreeLB's ascent steps, but only the last perturbation trains the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta, report_path
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.view import View


class PGDOptions(BallOptions):
    """Settings of pgd; ``passes`` is the number of ascent steps. One more pass trains the weights."""

    mode: Literal["pgd"] = "pgd"


class PGD(Adversary[PGDOptions]):
    """l(f(x + δ_K), y), where δ_K comes from K ascent steps like those of FreeLB (Madry et al. 2018).

    The steps compute gradients of δ only.
    """

    options_type = PGDOptions

    def cost_floor(self, blocks: float) -> float:
        return (2 * self.options.passes + 3) / 3

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        state = network.upto(0)
        fixed = state.detach()
        delta = start = first_delta(fixed, network, options)
        replay = Replay(network, enabled=options.reuse_dropout_mask)
        for _ in range(options.passes):
            delta = delta.requires_grad_()
            with replay:
                loss = network.loss(network.resume(fixed + delta, 0, trains=False))
            delta = ascend(delta, network.gradient(loss, delta), start, network, options)
        report_path(network, delta, start, fixed, options, steps=options.passes)
        with replay:
            loss = network.loss(network.resume(state + delta, 0))
        yield loss
