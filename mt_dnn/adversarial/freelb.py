"""freelb: several ascent steps whose backward passes also train the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta, report_path
from mt_dnn.adversarial.base import Adversary, Replay, View


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
        share = 1 / self.passes
        state = network.upto(0)
        delta = start = first_delta(state, network, options)
        replay = Replay(state.device, enabled=options.reuse_dropout_mask)
        if options.include_clean:
            yield network.loss(network.resume(state, 0)) * share
            replay()
            state = network.upto(0)
        for number in range(options.passes):
            if number > 0:
                assert delta.grad is not None  # the caller has run backward
                delta = ascend(delta, delta.grad, start, network, options)
                replay()
                state = network.upto(0)  # looked up again, so that the gradient of the table flows in each pass
            delta = delta.requires_grad_()
            yield network.loss(network.resume(state + delta, 0)) * share
        report_path(network, delta, start, state, options, steps=options.passes - 1)
