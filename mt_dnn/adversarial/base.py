"""The interface between an adversary and the rest: it sees a view of the network and yields losses, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class View:
    """The network on one batch.

    ``upto(level) -> (T, H)``; ``resume(state, level) -> logits (B, C)``; ``loss(logits) -> scalar``, the task's own
    loss; ``divergence(clean, perturbed) -> scalar``, the task's ``adv_loss``.
    """

    upto: Callable[[int], Tensor]
    resume: Callable[[Tensor, int], Tensor]
    loss: Callable[[Tensor], Tensor]
    divergence: Callable[[Tensor, Tensor], Tensor]


class Adversary(Protocol):
    """A generator of losses; the caller runs ``backward()`` on each before it asks for the next."""

    def __call__(self, network: View) -> Iterator[Tensor]: ...
