"""Passes that share dropout masks."""

from __future__ import annotations

from typing import Any

import torch

from mt_dnn.adversarial.view import View
from mt_dnn.encoders.dropout import KeptMasks


class Replay:
    """A context manager for passes of one batch, which all have the masks of the first (Zhu et al. 2020, section 3.3).

    Each time it is entered, it sets the random generators back to where they were when it was created, so the pass
    draws the same numbers again. A pass that does less than the first shares its masks as far as it goes.

    On a CPU, drawing masks takes a good part of a pass, so the encoder's masks are also kept in memory there, unless
    ``encoder.keeps_dropout_masks`` is False. Both ways give the same masks.

    With ``enabled=False`` nothing happens.
    """

    def __init__(self, network: View, *, enabled: bool = True) -> None:
        self.device, self.enabled = network.batch.input_ids.device, enabled
        self.cpu_state = torch.get_rng_state()
        self.gpu_state = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        keeps = enabled and self.device.type == "cpu" and network.model.encoder.keeps_dropout_masks
        self.masks = KeptMasks(network.model.encoder) if keeps else None

    def __enter__(self) -> None:
        if self.enabled:
            torch.set_rng_state(self.cpu_state)
            if self.gpu_state is not None:
                torch.cuda.set_rng_state(self.gpu_state, self.device)
        if self.masks is not None:
            self.masks.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.masks is not None:
            self.masks.__exit__(*error)
