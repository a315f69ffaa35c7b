"""The least time that the arithmetic of a plain training step allows on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from mt_dnn.bench.workload import Spent, Workload, now, since
from mt_dnn.training.precision import AUTOCAST_TYPES

RUNS = 20
OF_ALL_TOKENS = ("key", "value")  # linear layers whose results attention reads at every token of a sequence


def step_flops(work: Workload, rows: Sequence[int] | np.ndarray) -> int:
    """The floating-point operations of the matrix products of a plain step on these rows.

    A product of (m, k) and (k, n) has 2mkn. A backward pass has two products for each product of the forward pass.
    Counted is what the result needs, whatever is computed: no padding, and no state that no head reads. So if the head
    reads first tokens only, the last block counts keys and values of all tokens, and everything else of first tokens.
    Not counted: other operations than matrix products, such as softmax, LayerNorm, dropout and the optimizer's.
    """
    encoder = work.model.encoder
    (head,) = work.model.heads.values()
    lengths = _sequence_lengths(work, rows)
    tokens, sequences = int(lengths.sum()), len(lengths)
    products = sum(_block_products(work, lengths))
    products += (tokens if head.reads_tokens else sequences) * weights_of(head)
    if not head.reads_tokens and encoder.pooler_source in ("pretrained", "fresh", "family"):
        products += sequences * weights_of(encoder.pooler_dense)
    return 3 * 2 * products


def full_blocks(work: Workload, rows: Sequence[int] | np.ndarray) -> float:
    """How many blocks as costly as the first one the encoder has on these rows: the last one may count for less."""
    products = _block_products(work, _sequence_lengths(work, rows))
    return sum(products) / products[0]


def _block_products(work: Workload, lengths: np.ndarray) -> list[int]:
    """The multiplications of each block in a forward pass, for sequences of these lengths."""
    encoder = work.model.encoder
    (head,) = work.model.heads.values()
    tokens, squares = int(lengths.sum()), int((lengths**2).sum())
    products = [tokens * weights_of(block) + 2 * encoder.hidden_size * squares for block in encoder.blocks]
    if not head.reads_tokens and encoder.mix is None and encoder.reads_first_tokens:
        last = encoder.blocks[-1]
        read = sum(weights_of(part) for name, part in last.named_modules() if name.endswith(OF_ALL_TOKENS))
        products[-1] = tokens * read + len(lengths) * (weights_of(last) - read) + 2 * encoder.hidden_size * tokens
    return products


def weights_of(part: nn.Module) -> int:
    """The number of weights of all linear layers of a part of a model, without biases."""
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))


def matrix_rate(work: Workload, tokens: int) -> Spent:
    """The best floating-point operations per second of 20 runs of one block's matrix products with ``tokens`` rows.

    The products are those of the block's linear layers, in the number type of forward passes. The rates are those per
    second on the clock and per second of the processor.
    """
    dtype = AUTOCAST_TYPES[work.config.train.precision] or torch.float32
    layers = [layer for layer in work.model.encoder.blocks[0].modules() if isinstance(layer, nn.Linear)]
    options: dict[str, Any] = {"dtype": dtype, "device": work.device}
    products = []
    for layer in layers:
        weight = layer.weight.detach().to(**options).t()
        products.append((torch.randn(tokens, weight.shape[0], **options), weight))
    runs = []
    with torch.no_grad():
        results = [torch.empty(tokens, weight.shape[1], **options) for _, weight in products]
        for _ in range(RUNS):
            work.synchronize()
            start = now()
            for (states, weight), result in zip(products, results, strict=True):
                torch.mm(states, weight, out=result)
            work.synchronize()
            runs.append(since(start))
    flops = 2 * tokens * sum(weight.numel() for _, weight in products)
    return Spent(flops / min(run.wall for run in runs), flops / min(run.cpu for run in runs))


def _sequence_lengths(work: Workload, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    split, index = work.split, np.asarray(rows)
    if split.groups is None:
        return split.lengths[index]
    lengths = np.diff(split.sequence_offsets)
    return np.concatenate([lengths[split.groups[row] : split.groups[row + 1]] for row in index])
