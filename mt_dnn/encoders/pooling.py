"""Pooling makes one vector of the states of a sequence's tokens. The scalar mix mixes the states of all levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mt_dnn.batches.batch import Batch


def initialised(linear: nn.Linear, std: float) -> nn.Linear:
    """Draws the weights of a layer from N(0, std²), sets its bias, if it has one, to 0, and returns the layer."""
    nn.init.normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


def first_tokens(hidden: Tensor, batch: Batch) -> Tensor:
    """The state of the first token of each of S sequences, (T, H) → (S, H)."""
    return hidden.index_select(0, batch.offsets[:-1])  # its backward pass sorts nothing


def means(hidden: Tensor, batch: Batch) -> Tensor:
    """The mean over the tokens of each sequence, (T, H) → (S, H)."""
    sums = hidden.new_zeros(batch.sequences, hidden.shape[1]).index_add(0, batch.sequence_ids, hidden)
    return sums / batch.lengths[:, None]


def maxima(hidden: Tensor, batch: Batch) -> Tensor:
    """The largest entry of each dimension over the tokens of each sequence, (T, H) → (S, H)."""
    is_token = batch.mask[:, 0, 0, :, None]
    return batch.pad(hidden).masked_fill(~is_token, -torch.inf).amax(1)


POOLINGS: Mapping[str, Callable[[Tensor, Batch], Tensor]] = {"cls": first_tokens, "mean": means, "max": maxima}


def attended(scores: Tensor, states: Tensor, tokens: Tensor) -> Tensor:
    """Σ_j softmax(scores)_j states_j over positions j where ``tokens`` is True: (S, L), (S, L, H), (S, L) → (S, H)."""
    weights = scores.float().masked_fill(~tokens, -torch.inf).softmax(1).to(states.dtype)
    return torch.einsum("sl,slh->sh", weights, states)


class ScalarMix(nn.Module):
    """γ Σ_j s_j h_j with s = softmax(w), over the states h_j of all levels (Peters et al. 2018, eq. 1).

    γ and w are learned. At the start the mix is the mean of the states.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(levels))
        self.scale = nn.Parameter(torch.ones(1))  # FSDP takes no scalars

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """The mix, (T, H), of the states, each (T, H)."""
        shares = (self.scale * self.weights.softmax(0)).unbind()
        mixed = torch.zeros_like(states[-1])
        for share, state in zip(shares, states, strict=True):
            mixed = mixed + share * state
        return mixed
