"""The hidden states of a batch with the noise that an adversarial mode trains with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.adversarial.ball import BallOptions, ascend, first_delta
from mt_dnn.adversarial.base import LEVELS, Adversary
from mt_dnn.adversarial.freelb import FreeLBOptions
from mt_dnn.adversarial.perturbation import gaussian, uniform
from mt_dnn.adversarial.r3f import R3F
from mt_dnn.adversarial.rapt import RAPT
from mt_dnn.adversarial.replay import Replay
from mt_dnn.adversarial.vat import Virtual
from mt_dnn.adversarial.view import View
from mt_dnn.encoders.encoder import Level

NOISY = "rapt, vat, tat, freelb, pgd, r3f and r4f"


def noisy_states(adversary: Adversary[Any], view: View, level: int) -> Tensor | None:
    """The states at a level, (T, H), where δ was added as in training. None if δ does not reach the level.

    rapt adds δ to the output of a block: the block ``level``, so there is none at level 0. Other modes add δ to the
    word embeddings, from which the states above are computed. ``none`` adds none.

    Raises:
        UserError: the mode adds δ at another level, or this analysis does not know its noise.
    """
    options = adversary.options
    if options.mode == "none":
        return None
    if isinstance(adversary, RAPT) and options.max_layer:
        if level == 0:
            return None
        state = view.upto(level)
        return (state + adversary.perturbation(state, view)).detach()
    words = view.upto(0)
    where: Level = LEVELS[getattr(options, "level", "words")]
    if where != 0:
        raise UserError(
            f"adversary.level: {options.level}: this analysis knows the noise at words and behind blocks only"
        )
    return view.upto(level, words + _delta(adversary, view, words)).detach()


def _delta(adversary: Adversary[Any], view: View, words: Tensor) -> Tensor:
    """δ on word embeddings, (T, H)."""
    options = adversary.options
    if isinstance(adversary, RAPT):
        return adversary.perturbation(words, view)
    if isinstance(adversary, Virtual):
        return adversary.perturbation(view, words.requires_grad_(), view.resume(words, 0), Replay(view, enabled=False))
    if isinstance(adversary, R3F):
        return (uniform if options.noise == "uniform" else gaussian)(view, words, options.epsilon)
    if isinstance(options, BallOptions) and options.mode in ("freelb", "pgd"):
        delta = start = first_delta(words, view, options)
        for _ in range(options.passes - isinstance(options, FreeLBOptions)):
            delta = delta.detach().requires_grad_()
            loss = view.loss(view.resume(words + delta, 0, trains=False))
            delta = ascend(delta, view.gradient(loss, delta), start, view, options)
        return delta.detach()
    raise UserError(f"adversary.mode: {options.mode}: this analysis knows the noise of {NOISY}")
