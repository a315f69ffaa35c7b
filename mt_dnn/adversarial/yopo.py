"""yopo: you only propagate once. Like FreeLB, with additional ascent steps that run only through the first block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta, report_path
from mt_dnn.adversarial.base import Adversary
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.view import View
from mt_dnn.section import PositiveInt
from mt_dnn.tasks.model import Model


class YOPOOptions(BallOptions):
    """Settings of yopo. In YOPO-m-n, ``passes`` is m and ``inner_steps`` is n.

    m passes go through all blocks. Between two of these passes there are n ascent steps.
    """

    mode: Literal["yopo"] = "yopo"
    inner_steps: PositiveInt = Field(2, description="n, steps of δ for one gradient at the first block")


class YOPO(Adversary[YOPOOptions]):
    """m losses l(f(x + δ), y)/m. Between two losses, n ascent steps along ∇_δ⟨p, h_1(x + δ)⟩ change δ.

    h_1 is the output of the first block. p = ∂l/∂h_1 comes from the last full pass and stays constant in the n steps
    (Zhang et al. 2019, box 1). The first of the n steps needs no pass, because the full pass has already given the
    gradient of ⟨p, h_1⟩ at this δ.
    """

    options_type = YOPOOptions

    @property
    def passes(self) -> int:
        return self.options.passes

    def cost_floor(self, blocks: float) -> float:
        steps = (self.passes - 1) * (self.options.inner_steps - 1)  # through the first block alone
        return self.passes + steps * 2 / (3 * blocks)

    @classmethod
    def prepare(cls, options: YOPOOptions, model: Model, task: str) -> None:
        if model.encoder.mix is not None:
            raise UserError(
                "encoder.scalar_mix: the mix reads the word embeddings too, but yopo runs on from the first block "
                "without them; set encoder.scalar_mix=false"
            )

    def __call__(self, network: View) -> Iterator[Tensor]:
        options = self.options
        words = network.upto(0)
        delta = start = first_delta(words, network, options)
        replay = Replay(network, enabled=options.reuse_dropout_mask)
        for t in range(options.passes):
            if t > 0:
                words = network.upto(0)
            delta = delta.requires_grad_()
            with replay:
                first_block = network.upto(1, words + delta)
                first_block.retain_grad()
                loss = network.loss(network.resume(first_block, 1))
            yield loss / options.passes
            if t + 1 < options.passes:
                assert delta.grad is not None and first_block.grad is not None  # the caller has run backward
                p = first_block.grad.float() / network.scale  # the caller has multiplied the loss by the scale
                delta = self._inner_steps(network, words.detach(), delta, start, p, replay)
        steps = (options.passes - 1) * options.inner_steps
        report_path(network, delta, start, words, options, steps=steps)

    def _inner_steps(
        self, network: View, words: Tensor, delta: Tensor, start: Tensor, p: Tensor, replay: Replay
    ) -> Tensor:
        """δ after n ascent steps, (T, H), detached."""
        assert delta.grad is not None
        delta = ascend(delta, delta.grad, start, network, self.options)
        for _ in range(self.options.inner_steps - 1):
            delta = delta.requires_grad_()
            with replay:
                first_block = network.upto(1, words + delta)
            gradient = network.gradient((p * first_block).sum(), delta)
            delta = ascend(delta, gradient, start, network, self.options)
        return delta
