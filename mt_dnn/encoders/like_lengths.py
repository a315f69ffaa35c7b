"""Attention of a CPU over groups of sequences of like length, one call for each group.

A call for each sequence costs more than the work that it does if sequences are short, and one call for all of them
works on padding if their lengths differ. So neighbours in length go together, padded to the longest of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mt_dnn.encoders.dropout import Dropout

# In weights of one head, estimated. A call for one more group costs about as much as the work on CALL weights. A group
# of several sequences has MOST weights at most, so that it stays in the cache.
CALL, MOST = 4_000, 20_000


@dataclass(frozen=True)
class Group:
    """n sequences of like length, padded to L tokens.

    Args:
        sequences: their numbers in the batch.
        lengths: how many tokens each of them has.
        index: for each padded token the token of the batch, (n·L,). Padding repeats the first token of its sequence.
        real: which of these are no padding, their positions in ``index``.
    """

    sequences: tuple[int, ...]
    lengths: tuple[int, ...]
    index: Tensor
    real: Tensor

    def take(self, rows: Tensor) -> Tensor:
        """(T, heads, d) → (n, heads, L, d)."""
        if len(self.lengths) == 1:
            return self._only(rows)[None]
        part = rows.flatten(1).index_select(0, self.index).view(len(self.lengths), -1, *rows.shape[1:])
        return part.transpose(1, 2).contiguous()

    def put(self, values: Tensor, rows: Tensor) -> None:
        """Writes values, (n, heads, L, d), into rows, (T, heads, d)."""
        if len(self.lengths) == 1:
            self._only(rows).copy_(values[0])
        else:
            part = values.transpose(1, 2).flatten(2).flatten(0, 1)
            rows.flatten(1).index_copy_(0, self.index[self.real], part.index_select(0, self.real))

    def hide_padding(self, scores: Tensor) -> None:
        """Sets the scores of keys that are padding to −∞. scores: (n, heads, L, L)."""
        for number, length in enumerate(self.lengths):
            scores[number, :, :, length:] = -torch.inf

    def _only(self, rows: Tensor) -> Tensor:
        """The only sequence, (heads, L, d), as a view."""
        return rows.narrow(0, int(self.index[0]), self.lengths[0]).transpose(0, 1)


@lru_cache(maxsize=8)  # all blocks and passes of a batch ask for the same
def groups_of(lengths: tuple[int, ...]) -> list[Group]:
    """Divides sequences of these lengths into groups, the longest first, so that padding costs less than calls."""
    starts = list(accumulate(lengths, initial=0))
    groups = []
    for numbers in _alike(lengths):
        sizes = tuple(lengths[number] for number in numbers)
        there = torch.arange(sizes[0]) < torch.tensor(sizes)[:, None]  # (n, L)
        index = torch.tensor([starts[number] for number in numbers])[:, None] + torch.arange(sizes[0]) * there
        groups.append(Group(tuple(numbers), sizes, index.flatten(), there.flatten().nonzero()[:, 0]))
    return groups


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """The numbers of the sequences of each group, the longest first."""
    groups: list[list[int]] = []
    padding = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        longest = lengths[groups[-1][0]] if groups else 0
        padding += longest**2 - lengths[number] ** 2
        if not groups or padding > CALL or (len(groups[-1]) + 1) * longest**2 > MOST:
            groups.append([])
            padding = 0
        groups[-1].append(number)
    return groups


def attend_alike(parts: tuple[Tensor, ...], lengths: Sequence[int], dropout: Dropout, scale: float | None) -> Tensor:
    """Attention of each token to the tokens of its sequence, with dropout.

    parts: query, key and value, each (1, heads, T, d). ``dropout``: its masks have to come from ``Masks``. Returns
    (1, T, heads, d).
    """
    query, key, value = (part.squeeze(0).transpose(0, 1) for part in parts)  # (T, heads, d)
    scale = query.shape[2] ** -0.5 if scale is None else scale
    return _Attention.apply(query, key, value, groups_of(tuple(lengths)), dropout, scale)[None]


class _Attention(torch.autograd.Function):
    """O = s·D V with P = softmax(scale·Q Kᵀ), D = M ∘ P, for a mask M of zeros and ones and s = 1 / P(M = 1).

    With G = s·∂O: ∂V = Dᵀ G; ∂S = D ∘ (G Vᵀ) − P ∘ δ, where δ = rowsum(D ∘ (G Vᵀ)); ∂Q = scale·∂S K; ∂K = scale·∂Sᵀ Q.
    δ is also rowsum(∂O ∘ O), but O may be rounded to 16 bits, which costs accuracy. Masks hold zeros where a query or a
    key is padding, so padding adds nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: list[Group], dropout: Dropout, scale: float
    ) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        output, kept = torch.empty(query.shape, dtype=query.dtype), []
        for group in groups:
            q, k, v = (group.take(rows) for rows in (query, key, value))
            scores = (q * scale) @ k.transpose(2, 3)
            group.hide_padding(scores)
            p = scores.softmax(dim=3, dtype=wide)
            d = (p * dropout.kept(tuple(p.shape), wide, group.sequences)).to(query.dtype)
            group.put((d @ v).mul_(dropout.scale), output)
            kept += [q, k, v, p, d]
        ctx.save_for_backward(*kept)
        ctx.groups, ctx.scale, ctx.dropout_scale = groups, scale, dropout.scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        kept = iter(ctx.saved_tensors)
        results = [torch.empty(gradient.shape, dtype=gradient.dtype) for _ in range(3)]
        for group in ctx.groups:
            q, k, v, p, d = (next(kept) for _ in range(5))
            g = group.take(gradient)
            g = g * ctx.dropout_scale
            s = (g @ v.transpose(2, 3)).to(p.dtype).mul_(d)
            s = s.addcmul_(p, s.sum(dim=3, keepdim=True), value=-1).to(q.dtype)
            for rows, values in zip(results, (s @ k, s.transpose(2, 3) @ q, d.transpose(2, 3) @ g), strict=True):
                group.put(values, rows)
        query, key, value = results
        return query.mul_(ctx.scale), key.mul_(ctx.scale), value, None, None, None
