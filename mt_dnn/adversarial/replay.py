"""Passes with the dropout masks of an earlier pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mt_dnn.adversarial.view import View


class Replay:
    """Passes within it have the dropout masks of the first one (FreeLB, section 3.3), as far as they go alike.

    The generators are set back to where they stood when it was made. On a CPU, where drawing a mask takes a good part
    of a pass, masks are kept besides; they outlive the pass, so not where activations are recomputed to save memory.
    """

    def __init__(self, network: View, *, enabled: bool = True) -> None:
        self.device, self.enabled = network.batch.input_ids.device, enabled
        self.cpu = torch.get_rng_state()
        self.accelerator = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        keeps = enabled and self.device.type == "cpu" and network.model.encoder.runs_as_written
        self.masks = KeptMasks() if keeps else None

    def __enter__(self) -> None:
        if self.enabled:
            torch.set_rng_state(self.cpu)
            if self.accelerator is not None:
                torch.cuda.set_rng_state(self.accelerator, self.device)
        if self.masks is not None:
            self.masks.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.masks is not None:
            self.masks.__exit__(*error)


class KeptMasks(TorchFunctionMode):
    """Within it the n-th dropout has the n-th mask, drawn once; the generator moves on as if it were drawn again."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[Tensor, Tensor]] = []  # a mask, and the generator's state after it

    def __enter__(self) -> KeptMasks:
        self.unused = iter(list(self.drawn))
        return super().__enter__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is F.dropout:
            return self._dropout(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _dropout(self, value: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not 0 < p < 1:
            return F.dropout(value, p, training, inplace)
        kept = next(self.unused, None)
        if kept is None:
            mask = torch.empty_like(value, requires_grad=False).bernoulli_(1 - p).div_(1 - p)
            self.drawn.append((mask, torch.get_rng_state()))
        else:
            mask, state = kept
            assert mask.shape == value.shape  # passes that went another way would get each other's masks
            torch.set_rng_state(state)
        return value.mul_(mask) if inplace else value * mask
