"""Task heads. A head reads the final hidden states (T, H) and gives logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mt_dnn.batch import Batch
from mt_dnn.losses import MISSING


class PooledHead(nn.Module):
    """Dropout and one linear layer over the pooled example, initialised as transformers' classifiers are."""

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = initialised(nn.Linear(hidden, outputs), std)

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (S, C)."""
        return self.linear(self.dropout(pool(hidden, batch)))


class ChoiceHead(PooledHead):
    """One score for each choice of an example."""

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (B, C), MISSING where an example has fewer choices."""
        return batch.by_example(super().forward(hidden, batch, pool)[:, 0], MISSING)


class TokenHead(PooledHead):
    """Classes for each token that is marked."""

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C)."""
        return self.linear(self.dropout(hidden[batch.marked]))


class SpanHead(PooledHead):
    """Where a span starts and where it ends: two distributions over the tokens of each sequence.

    Both at the first token say that there is none; outside of training ``threshold`` is taken off the sum of the two.
    """

    threshold: Tensor

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 2, dropout, std)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (2·S, L), a start and an end for each sequence; MISSING where a sequence is shorter."""
        scores = batch.pad(self.linear(self.dropout(hidden)))
        if not self.training:
            scores[:, 0] -= self.threshold / 2
        there = batch.mask[:, 0, 0, :, None]
        return scores.masked_fill(~there, MISSING).transpose(1, 2).flatten(0, 1)


def initialised(linear: nn.Linear, std: float) -> nn.Linear:
    """The same layer with weights from N(0, std²) and zero bias."""
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear
