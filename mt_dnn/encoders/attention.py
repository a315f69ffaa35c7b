"""Packed attention: transformers' blocks run on (1, T, H); padding exists, if at all, only in here."""

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

NAME = "packed"


@torch.compiler.disable  # its sizes are those of the examples, which differ from batch to batch
def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Batch | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of each token to the tokens of its own example.

    query, key, value: (1, heads, T, d); returns (1, T, heads, d), as transformers expects. Without ``packed``
    it is transformers' own attention, so that the model still works by itself.
    """
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    run = _one_by_one if query.device.type == "cpu" else _padded
    return run((query, key, value), packed, dropout_p=dropout, scale=scaling), None


def _one_by_one(parts: tuple[Tensor, ...], batch: Batch, *, dropout_p: float, scale: float | None) -> Tensor:
    """Example after example: on a CPU calls are cheap and work grows with the square of the length."""
    lengths = batch.lengths.tolist()
    examples = zip(*(part.split(lengths, dim=2) for part in parts), strict=True)
    # Torch has no fused attention with dropout for a CPU, and is slower than the plain formula there.
    attention: Callable[..., Tensor] = partial(_written_out, dropout_p) if dropout_p else F.scaled_dot_product_attention
    return torch.cat([attention(*example, scale=scale).transpose(1, 2) for example in examples], dim=1)


def _written_out(dropout: float, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None) -> Tensor:
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    weights = ((query * scale) @ key.transpose(2, 3)).softmax(dim=3, dtype=torch.float32).to(value.dtype)
    return F.dropout(weights, dropout) @ value


def _padded(parts: tuple[Tensor, ...], batch: Batch, **options: Any) -> Tensor:
    """All examples in one call, padded to the longest: on an accelerator calls are dear."""
    query, key, value = (batch.pad(part[0].transpose(0, 1)).transpose(1, 2) for part in parts)  # (B, heads, L, d)
    mask = None if batch.is_even else batch.mask
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)
    return batch.unpad(output.transpose(1, 2))[None]


AttentionInterface.register(NAME, attend)


AttentionMaskInterface.register(NAME, sdpa_mask)
