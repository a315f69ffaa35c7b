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
NARROW = 16  # the softmax of torch is slow on rows that are shorter than a vector register


@dataclass(frozen=True)
class Order:
    """How the rows of all heads and tokens lie group by group, (n, heads, L) in each group, padding included.

    Args:
        index: for each such row its row in (T·heads,). Padding repeats the first token of its sequence.
        inverse: for each row in (T·heads,) where it lies.
    """

    index: Tensor
    inverse: Tensor

    def arranged(self, states: Tensor) -> Tensor:
        """(T, heads, d) → (rows, d), group by group."""
        return states.reshape(-1, states.shape[2]).index_select(0, self.index)

    def restored(self, rows: Tensor, heads: int) -> Tensor:
        """(rows, d), group by group → (T, heads, d)."""
        return rows.index_select(0, self.inverse).view(-1, heads, rows.shape[1])


@dataclass(frozen=True)
class Group:
    """n sequences of like length, padded to L tokens, with a query for each token or for the first token only.

    Args:
        sequences: their numbers in the batch.
        shape: (n, heads, queries, L), of their weights of attention.
        first_query, first_key: how many rows of queries and of keys all groups before it have.
        padding: 0, and −∞ where a key is padding, (n, 1, 1, L). None: there is no padding.
    """

    sequences: tuple[int, ...]
    shape: tuple[int, int, int, int]
    first_query: int
    first_key: int
    padding: Tensor | None

    def queries(self, rows: Tensor) -> Tensor:
        """The part of this group, (n·heads, queries, d), of arranged rows."""
        return self._part(rows, self.first_query, self.shape[2])

    def keys(self, rows: Tensor) -> Tensor:
        """The part of this group, (n·heads, L, d), of arranged rows."""
        return self._part(rows, self.first_key, self.shape[3])

    def _part(self, rows: Tensor, first: int, tokens: int) -> Tensor:
        matrices = self.shape[0] * self.shape[1]
        return rows.narrow(0, first, matrices * tokens).view(matrices, tokens, -1)

    def softmax(self, scores: Tensor, dtype: torch.dtype) -> Tensor:
        """The softmax over keys that are no padding, in a number type. Scores, (n·heads, queries, L), may change."""
        if self.padding is not None:
            scores.view(self.shape).add_(self.padding)
        if scores.shape[2] >= NARROW:
            return scores.softmax(dim=2, dtype=dtype)
        powers = scores.sub_(scores.amax(dim=2, keepdim=True)).to(dtype).exp_()
        return powers.div_(powers.sum(dim=2, keepdim=True))


@dataclass(frozen=True)
class Layout:
    """Groups of all sequences of a batch, and where the rows of their queries and keys lie."""

    groups: tuple[Group, ...]
    queries: Order
    keys: Order


@lru_cache(maxsize=16)  # all blocks and passes of a batch ask for the same
def layout_of(lengths: tuple[int, ...], heads: int, *, first_tokens: bool = False) -> Layout:
    """Divides sequences of these lengths into groups, the longest first, so that padding costs less than calls.

    ``first_tokens``: the queries are those of the first token of each sequence, (S, heads, d).
    """
    starts = list(accumulate(lengths, initial=0))
    groups, tokens, real, firsts = list[Group](), list[Tensor](), list[Tensor](), list[Tensor]()
    first_query = first_key = 0
    for numbers in _alike(lengths):
        sizes = torch.tensor([lengths[number] for number in numbers])[:, None]
        longest = lengths[numbers[0]]
        there = torch.arange(longest) < sizes  # (n, L)
        tokens.append(torch.tensor([starts[number] for number in numbers])[:, None] + torch.arange(longest) * there)
        real.append(there)
        firsts.append(torch.tensor(numbers)[:, None])
        padding = None if there.all() else torch.zeros(there.shape).masked_fill(~there, -torch.inf)[:, None, None]
        shape = len(numbers), heads, 1 if first_tokens else longest, longest
        groups.append(Group(tuple(numbers), shape, first_query, first_key, padding))
        first_query += len(numbers) * heads * shape[2]
        first_key += len(numbers) * heads * longest
    keys = _order(tokens, real, heads)
    queries = _order(firsts, [torch.ones_like(part, dtype=torch.bool) for part in firsts], heads)
    return Layout(tuple(groups), queries if first_tokens else keys, keys)


def _order(tokens: Sequence[Tensor], real: Sequence[Tensor], heads: int) -> Order:
    """The order of rows whose tokens in each group are (n, L). ``real``: False where that is padding, (n, L)."""
    index = torch.cat([(part[:, None] * heads + torch.arange(heads)[:, None]).flatten() for part in tokens])
    rows = torch.cat([part[:, None].expand(-1, heads, -1).flatten() for part in real]).nonzero()[:, 0]
    return Order(index, torch.empty_like(rows).index_copy_(0, index[rows], rows))


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


def attend_alike(
    parts: tuple[Tensor, ...],
    lengths: Sequence[int],
    dropout: Dropout,
    scale: float | None,
    *,
    first_tokens: bool = False,
) -> Tensor:
    """Attention of each token to the tokens of its sequence, with dropout.

    parts: query, key and value, each (1, heads, T, d). ``dropout``: its masks have to come from ``Masks``. Returns
    (1, T, heads, d). ``first_tokens``: the queries are those of the first token of each sequence, (1, heads, S, d).
    """
    query, key, value = (part.squeeze(0).transpose(0, 1) for part in parts)  # (T, heads, d)
    scale = query.shape[2] ** -0.5 if scale is None else scale
    layout = layout_of(tuple(lengths), query.shape[1], first_tokens=first_tokens)
    return _Attention.apply(query, key, value, layout, dropout, scale)[None]


class _Attention(torch.autograd.Function):
    """O = s·D V with P = softmax(scale·Q Kᵀ), D = M ∘ P, for a mask M of zeros and ones and s = 1 / P(M = 1).

    With G = s·∂O: ∂V = Dᵀ G; ∂S = D ∘ (G Vᵀ) − P ∘ δ, where δ = rowsum(D ∘ (G Vᵀ)); ∂Q = scale·∂S K; ∂K = scale·∂Sᵀ Q.
    δ is also rowsum(∂O ∘ O), but O may be rounded to 16 bits, which costs accuracy. Masks hold zeros where a query or a
    key is padding, so padding adds nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: Dropout, scale: float
    ) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        q, k, v = layout.queries.arranged(query), layout.keys.arranged(key), layout.keys.arranged(value)
        read, kept = torch.empty_like(q), []
        masks = dropout.kept_in_turn([(group.shape, group.sequences) for group in layout.groups], wide)
        for group in layout.groups:
            scores = _product(group.queries(q), group.keys(k).transpose(1, 2), scale)
            p = group.softmax(scores, wide)
            d = next(masks).view(p.shape).mul_(p).to(query.dtype)
            _product(d, group.keys(v), dropout.scale, group.queries(read))
            kept += [p, d]
        ctx.save_for_backward(q, k, v, *kept)
        ctx.layout, ctx.heads, ctx.scale, ctx.dropout_scale = layout, query.shape[1], scale, dropout.scale
        return layout.queries.restored(read, ctx.heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        q, k, v, *kept = ctx.saved_tensors
        layout, scale, dropout_scale = ctx.layout, ctx.scale, ctx.dropout_scale
        g = layout.queries.arranged(gradient)
        query, key, value = (torch.empty_like(rows) for rows in (q, k, v))
        for group, p, d in zip(layout.groups, kept[::2], kept[1::2], strict=True):
            s = _product(group.queries(g), group.keys(v).transpose(1, 2), dropout_scale).to(p.dtype).mul_(d)
            s = s.addcmul_(p, s.sum(dim=2, keepdim=True), value=-1).to(q.dtype)
            _product(s, group.keys(k), scale, group.queries(query))
            _product(s.transpose(1, 2), group.queries(q), scale, group.keys(key))
            _product(d.transpose(1, 2), group.queries(g), dropout_scale, group.keys(value))
        orders = layout.queries, layout.keys, layout.keys
        rows = zip(orders, (query, key, value), strict=True)
        return *(order.restored(part, ctx.heads) for order, part in rows), None, None, None


def _product(left: Tensor, right: Tensor, scale: float, out: Tensor | None = None) -> Tensor:
    """scale · left @ right, (n, i, j) and (n, j, k) → (n, i, k), in a new tensor or in ``out``."""
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.baddbmm(out, left, right, beta=0, alpha=scale, out=out)
