"""Attention for packed batches, registered with transformers under the name ``packed``.

A packed batch is (1, T, H): all tokens of all sequences, one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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

NAME = "packed"


@torch.compiler.disable
def attend_from_firsts(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, batch: Batch) -> Tensor:
    """Computes attention of the first token of each sequence to all tokens of the sequence.

    query: (1, heads, S, d); key, value: (1, heads, T, d). Returns (1, S, heads, d). ``module`` is the attention module
    of the block.
    """
    assert isinstance(module.dropout, Dropout)
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
    together: bool = False,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Computes attention of each token to the tokens of the same sequence.

    query, key, value: (1, heads, T, d). Returns the output, (1, T, heads, d), and None for the attention weights.
    transformers calls this function from ``module``, whose ``dropout`` is the dropout of attention weights. If
    ``packed`` is None, the batch is padded, for example because another program uses the model. Then transformers'
    ``sdpa`` runs. ``together``: on a CPU, with dropout whose masks come from ``Masks``,
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
        return _padded(parts, packed, layer, scaling), None
    if together and layer is not None and layer.has_masks(query.device):
        return attend_alike(parts, packed.lengths.tolist(), layer, scaling), None
    return _sequence_by_sequence(parts, packed, layer, scaling), None


def _sequence_by_sequence(
    parts: tuple[Tensor, ...], batch: Batch, dropout: Dropout | None, scale: float | None
) -> Tensor:
    """Makes one call per sequence. On a CPU a call costs little, and the work grows with the square of the length."""
    lengths = batch.lengths.tolist()
    sequences = zip(*(part.split(lengths, dim=2) for part in parts), strict=True)
    # With dropout, torch has no fused attention for a CPU and is slower than the plain formula.
    outputs = [
        F.scaled_dot_product_attention(query, key, value, scale=scale)
        if dropout is None
        else _with_dropout(partial(dropout, sequences=[number]), query, key, value, scale=scale)
        for number, (query, key, value) in enumerate(sequences)
    ]
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1)


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
