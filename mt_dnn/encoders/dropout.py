"""Dropout whose masks a later pass can use again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """Like ``nn.Dropout``, but takes its masks from ``masks`` while a ``KeptMasks`` is open.

    It has no weights and no buffers, so saved encoders are the same as with ``nn.Dropout``.
    """

    masks: KeptMasks | None = None

    def forward(self, state: Tensor) -> Tensor:
        """The state with entries dropped in training, in any shape."""
        if self.masks is None or not self.training or not 0 < self.p < 1:
            return super().forward(state)
        mask = self.masks.next_mask(state, self.p)
        return state.mul_(mask) if self.inplace else state * mask


class KeptMasks:
    """Keeps the dropout masks of the first pass of a module and gives them to later passes.

    It is a context manager, entered once per pass. The n-th call of a ``Dropout`` in a pass gets the n-th mask. So a
    later pass has to make the same calls as the first, but may stop early.

    Not all dropout is a ``Dropout``. In most families that run padded, torch's ``scaled_dot_product_attention`` drops
    attention weights itself. Some families call ``F.dropout``. Heads are not part of the encoder. All these draw their
    masks in each pass. They get the same masks if the caller sets the random generator back before each pass, because
    after a kept mask the generator has the state that it would have after drawing this mask.
    """

    def __init__(self, module: nn.Module) -> None:
        self._dropouts = [part for part in module.modules() if isinstance(part, Dropout)]
        self._drawn: list[tuple[Tensor, Tensor]] = []  # each mask and the generator's state after it
        self._used = 0

    def __enter__(self) -> None:
        self._used = 0
        for dropout in self._dropouts:
            dropout.masks = self

    def __exit__(self, *error: Any) -> None:
        for dropout in self._dropouts:
            dropout.masks = None

    def next_mask(self, state: Tensor, p: float) -> Tensor:
        """The next mask, in the shape of the state: 0 with probability p, otherwise 1/(1 − p), as torch draws it."""
        if self._used == len(self._drawn):
            mask = torch.empty_like(state, requires_grad=False).bernoulli_(1 - p).div_(1 - p)
            self._drawn.append((mask, torch.get_rng_state()))
        else:
            mask, generator_state = self._drawn[self._used]
            assert mask.shape == state.shape  # a pass that makes other calls would get wrong masks
            torch.set_rng_state(generator_state)
        self._used += 1
        return mask


def replace_dropouts(module: nn.Module) -> None:
    """Puts a ``Dropout`` in place of every ``nn.Dropout`` inside the module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p, child.inplace))
