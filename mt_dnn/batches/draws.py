"""Random numbers of one batch: functions of its seed and of each example's place, whatever ranks share it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mt_dnn.batches.batch import Batch

SHARED, FIRST_EXAMPLE = 0, 1  # streams of a batch


def seed_of(*numbers: int) -> int:
    """A generator's seed as a function of whole numbers from 0 on."""
    words = np.random.SeedSequence(numbers).generate_state(2)
    return int(words[0]) << 31 | int(words[1]) >> 1


class Draws:
    """Each draw takes from streams of its own: one per example, and one that all examples share.

    So noise depends neither on how a batch is divided among ranks nor on what else is drawn, and dropout, which
    takes from torch's global generator, does not disturb it.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch, self.count = batch, 0
        self.seed = 0 if batch.share is None else batch.share.seed
        self.positions = tuple(range(batch.size)) if batch.share is None else batch.share.positions

    def normal(self, state: Tensor) -> Tensor:
        """N(0, 1) in the shape of a state, (T, H)."""
        return self._like(state, torch.randn)

    def uniform(self, state: Tensor) -> Tensor:
        """U(0, 1) in the shape of a state, (T, H)."""
        return self._like(state, torch.rand)

    def chances(self) -> Tensor:
        """U(0, 1), one number per decision, (N,)."""
        self.count += 1
        device = self.batch.offsets.device
        counts = self.batch.decisions_each.tolist()
        parts = zip(counts, self._generators(device), strict=True)
        return torch.cat([torch.rand(n, device=device, generator=g) for n, g in parts])

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included; the same for all examples."""
        self.count += 1
        return int(torch.randint(low, high + 1, (), generator=self._generator(SHARED, torch.device("cpu"))))

    def _like(self, state: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        self.count += 1
        parts = zip(self.batch.example_lengths.tolist(), self._generators(state.device), strict=True)
        return torch.cat([draw((n, state.shape[1]), device=state.device, generator=g) for n, g in parts])

    def _generators(self, device: torch.device) -> list[torch.Generator]:
        return [self._generator(FIRST_EXAMPLE + position, device) for position in self.positions]

    def _generator(self, stream: int, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed_of(self.seed, stream, self.count))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Makes dropout a function of (seed, step, rank), so resuming needs no generator state."""
    torch.manual_seed(seed_of(seed, step, rank))


def batch_seeds(seed: int, step: int, count: int) -> list[int]:
    """A seed for the noise of each batch of an update."""
    return np.random.SeedSequence((seed, step)).generate_state(count).tolist()
