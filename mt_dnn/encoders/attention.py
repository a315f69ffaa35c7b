"""Attention for packed batches, registered with transformers under the name ``packed``.

A packed batch is (1, T, H): all tokens of all sequences, one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.dropout import Dropout
from mt_dnn.encoders.like_lengths import attend_alike
from mt_dnn.encoders.variable_length import Layout, kernel_for

NAME = "packed"


@torch.compiler.disable
def attend_from_firsts(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, batch: Batch, *, together: bool = True
) -> Tensor:
    """Computes attention of the first token of each sequence to all tokens of the sequence.

    query: (1, heads, S, d); key, value: (1, heads, T, d). Returns (1, S, heads, d). ``module`` is the attention module
    of the block. ``together``: as for ``attend``.
    """
    assert isinstance(module.dropout, Dropout)
    parts = query, key, value
    if together and module.dropout.has_masks(query.device):
        return attend_alike(parts, batch.lengths.tolist(), module.dropout, None, first_tokens=True)
    read = _without_padding(parts, batch, module.dropout, None, first_tokens=True) if together else None
    if read is not None:
        return read
    firsts = query.transpose(0, 2)  # (S, heads, 1, d)
    keys, values = (batch.pad(part[0].transpose(0, 1)).transpose(1, 2) for part in (key, value))  # (S, heads, L, d)
    mask = None if batch.is_even else batch.mask
    p = module.dropout.p if module.training else 0.0
    if p and query.device.type == "cpu":
        read = _with_dropout(module.dropout, firsts, keys, values, mask=mask, scale=None)
    else:
        read = F.scaled_dot_product_attention(firsts, keys, values, attn_mask=mask, dropout_p=p)
    return read.permute(2, 0, 1, 3)


@torch.compiler.disable  # sequence lengths differ from batch to batch, and each length would be compiled
def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Batch | None = None,
    together: bool = True,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes attention of each token to the tokens of the same sequence.

    query, key, value: (1, heads, T, d). Returns the output, (1, T, heads, d), and None for the attention weights.
    transformers calls this function from ``module``, whose ``dropout`` is the dropout of attention weights. If
    ``packed`` is None, the batch is padded, for example because another program uses the model. Then transformers'
    ``sdpa`` runs. ``together``: where it is faster, sequences of different lengths share a call. On an accelerator that
    is an operator for different lengths (variable_length.py). On a CPU, with dropout whose masks come from ``Masks``,
    sequences of like length go together (like_lengths.py).
    """
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    layer = module.dropout if dropout else None
    assert layer is None or isinstance(layer, Dropout)
    parts = query, key, value
    if query.device.type != "cpu":
        read = _without_padding(parts, packed, layer, scaling) if together else None
        return _padded(parts, packed, layer, scaling) if read is None else read, None
    if together and layer is not None and layer.has_masks(query.device):
        return attend_alike(parts, packed.lengths.tolist(), layer, scaling), None
    return _sequence_by_sequence(parts, packed, layer, scaling), None


def _without_padding(
    parts: tuple[Tensor, ...],
    batch: Batch,
    dropout: nn.Dropout | None,
    scale: float | None,
    *,
    first_tokens: bool = False,
) -> Tensor | None:
    """Makes one call for all sequences without padding, where the device has an operator for it. Else returns None.

    ``first_tokens``: there are queries of the first token of each sequence only.
    """
    query, key, value = (part[0].transpose(0, 1) for part in parts)  # (T, heads, d)
    kernel = kernel_for(query)
    if kernel is None:
        return None
    p = dropout.p if dropout is not None and dropout.training else 0.0
    bounds, most = (batch.first_bounds, 1) if first_tokens else (batch.short_offsets, batch.longest)
    layout = Layout(bounds, batch.short_offsets, most, batch.longest)
    return kernel(query, key, value, layout, p, scale)[None]


def _sequence_by_sequence(
    parts: tuple[Tensor, ...], batch: Batch, dropout: Dropout | None, scale: float | None
) -> Tensor:
    """Makes one call per sequence, or without dropout one per run of neighbours of the same length.

    On a CPU a call costs little, and the work grows with the square of the length.
    """
    lengths = batch.lengths.tolist()
    if dropout is None:
        return _length_by_length(parts, lengths, scale)
    sequences = zip(*(part.split(lengths, dim=2) for part in parts), strict=True)
    # With dropout, torch has no fused attention for a CPU and is slower than the plain formula.
    outputs = [
        _with_dropout(partial(dropout, sequences=[number]), query, key, value, scale=scale)
        for number, (query, key, value) in enumerate(sequences)
    ]
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1)


def _length_by_length(parts: tuple[Tensor, ...], lengths: Sequence[int], scale: float | None) -> Tensor:
    """Makes one call for all neighbours of the same length. In evaluation sequences are in the order of their lengths.

    ``lengths``: the number of tokens of each sequence.
    """
    counts = [(length, sum(1 for _ in group)) for length, group in groupby(lengths)]
    groups = zip(*(part[0].split([length * count for length, count in counts], dim=1) for part in parts), strict=True)
    outputs = []
    for (_, count), states in zip(counts, groups, strict=True):
        query, key, value = (state.unflatten(1, (count, -1)).transpose(0, 1) for state in states)  # (n, heads, L, d)
        output = F.scaled_dot_product_attention(query, key, value, scale=scale)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None]


def _with_dropout(
    dropout: Callable[[Tensor], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None,
) -> Tensor:
    """dropout(softmax(query keyᵀ · scale)) value, with the default scale 1/√d. ``mask``: True where a key counts."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=3, dtype=torch.float32).to(value.dtype)
    return dropout(weights) @ value


def _padded(parts: tuple[Tensor, ...], batch: Batch, dropout: nn.Dropout | None, scale: float | None) -> Tensor:
    """Makes one call for all sequences, padded to the longest. On an accelerator each call costs much."""
    query, key, value = (batch.pad(part[0].transpose(0, 1)).transpose(1, 2) for part in parts)  # (S, heads, L, d)
    mask = None if batch.is_even else batch.mask
    p = 0.0 if dropout is None else dropout.p
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p, scale=scale)
    return batch.unpad(output.transpose(1, 2))[None]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
