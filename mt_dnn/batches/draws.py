"""Random numbers of one batch. They depend on its seed and on each example's position, not on the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from mt_dnn.batches.batch import Batch

SHARED, FIRST_EXAMPLE = 0, 1  # numbers of streams: one stream for the batch, then one for each example


def seed_of(*numbers: int) -> int:
    """Mixes several integers, each at least 0, into a seed for a generator."""
    words = np.random.SeedSequence(numbers).generate_state(2)
    return int(words[0]) << 31 | int(words[1]) >> 1


class Draws:
    """Draws the noise of one batch. Every draw starts new generators: one per example, or one for all examples.

    So noise does not depend on how ranks divide a batch, or on other random numbers such as those of dropout. On a CPU
    each example has a generator. On an accelerator each call costs much, so there is one draw for the batch of all
    ranks, of which a rank takes the part of its examples.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch, self.count = batch, 0

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
        if device.type != "cpu":
            return self.of_all_ranks(self.batch.share.decisions, (), torch.rand, device)
        counts = self.batch.decisions_each.tolist()
        parts = zip(counts, self._generators(device), strict=True)
        return torch.cat([torch.rand(n, device=device, generator=g) for n, g in parts])

    def integer(self, low: int, high: int) -> int:
        """An integer from low to high, both included. It is the same for all examples."""
        self.count += 1
        return int(torch.randint(low, high + 1, (), generator=self._generator(SHARED, torch.device("cpu"))))

    def of_all_ranks(
        self, sizes: Sequence[int], shape: tuple[int, ...], draw: Callable[..., Tensor], device: torch.device
    ) -> Tensor:
        """Draws rows of this shape for the batch of all ranks, and returns those of this rank's examples.

        ``sizes``: how many rows each example of the batch of all ranks has.
        """
        positions = self.batch.share.positions
        rows = draw((sum(sizes), *shape), device=device, generator=self._generator(SHARED, device))
        if positions == tuple(range(len(sizes))):
            return rows
        stops = list(accumulate(sizes))
        return torch.cat([rows[stops[position] - sizes[position] : stops[position]] for position in positions])

    def _like(self, state: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        self.count += 1
        if state.device.type != "cpu":
            return self.of_all_ranks(self.batch.share.tokens, (state.shape[1],), draw, state.device)
        parts = zip(self.batch.example_lengths.tolist(), self._generators(state.device), strict=True)
        return torch.cat([draw((n, state.shape[1]), device=state.device, generator=g) for n, g in parts])

    def _generators(self, device: torch.device) -> list[torch.Generator]:
        return [self._generator(FIRST_EXAMPLE + position, device) for position in self.batch.share.positions]

    def _generator(self, stream: int, device: torch.device) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed_of(self.batch.share.seed, stream, self.count))


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seeds torch's global generator, so that a resumed run needs no generator state.

    Draws that are not a function of the batch come from it, such as dropout on an accelerator.
    """
    torch.manual_seed(seed_of(seed, step, rank))


def batch_seeds(seed: int, step: int, count: int) -> list[int]:
    """Seeds for the noise and the masks of the ``count`` micro-batches of an update."""
    return np.random.SeedSequence((seed, step)).generate_state(count).tolist()
