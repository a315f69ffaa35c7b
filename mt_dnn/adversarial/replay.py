"""Passes that share dropout masks."""

from __future__ import annotations

from typing import Any

import torch

from mt_dnn.adversarial.view import View


class Replay:
    """A context manager for passes of one batch, which all have the masks of the first (Zhu et al. 2020, section 3.3).

    Each time it is entered, it sets the number of the pass and torch's random generators back to where they were when
    it was created, so the pass draws the same masks again. A pass that does less than the first shares its masks as
    far as it goes.

    With ``enabled=False`` nothing happens.
    """

    def __init__(self, network: View, *, enabled: bool = True) -> None:
        self.device, self.enabled = network.batch.input_ids.device, enabled
        self.masks, self.position = network.masks, network.masks.position
        self.cpu_state = torch.get_rng_state()
        self.gpu_state = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None

    def __enter__(self) -> None:
        if not self.enabled:
            return
        self.masks.position = self.position
        torch.set_rng_state(self.cpu_state)
        if self.gpu_state is not None:
            torch.cuda.set_rng_state(self.gpu_state, self.device)

    def __exit__(self, *error: Any) -> None:
        """Leaves the generators where the pass has left them."""
