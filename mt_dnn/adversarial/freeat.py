"""freeat: free adversarial training, an optimizer step after each ascent step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta, report_path
from mt_dnn.adversarial.base import Adversary, Replay, View


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
        options = self.options
        state = network.upto(0)
        delta = start = first_delta(state, network, options)
        replay = Replay(state.device, enabled=options.reuse_dropout_mask)
        for number in range(options.passes):
            if number > 0:
                assert delta.grad is not None  # the caller has run backward
                delta = ascend(delta, delta.grad, start, network, options)
                replay()
                state = network.upto(0)  # the table has been trained since
            delta = delta.requires_grad_()
            yield network.loss(network.resume(state + delta, 0))
        report_path(network, delta, start, state, options, steps=options.passes - 1)
