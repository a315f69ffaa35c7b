"""Attention of sequences of different lengths on a GPU: one call for all of them, without padding and without a mask.

torch has two such operators with dropout, which nested tensors use: FlashAttention (Dao 2023) for 16-bit numbers, and
memory-efficient attention (Rabe & Staats 2021) for all. They are private, so each is tried once before it is used.
Their masks come from the GPU's default generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mt_dnn.distributed.ranks import say


class Layout(NamedTuple):
    """Which queries and keys belong to one sequence. Sequence i is ``bounds[i]:bounds[i+1]``; bounds are int32."""

    query_bounds: Tensor
    key_bounds: Tensor
    most_queries: int  # of a sequence
    most_keys: int


# queries (Q, heads, d), keys and values (T, heads, d), layout, dropout, scale → (Q, heads, d)
Kernel = Callable[[Tensor, Tensor, Tensor, Layout, float, float | None], Tensor]


def flash(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scale: float | None) -> Tensor:
    """FlashAttention, for float16 and bfloat16."""
    no_causal_mask, no_debug_mask = False, False
    return torch.ops.aten._flash_attention_forward(
        query, key, value, *layout, dropout, no_causal_mask, no_debug_mask, scale=scale
    )[0]


def efficient(query: Tensor, key: Tensor, value: Tensor, layout: Layout, dropout: float, scale: float | None) -> Tensor:
    """Memory-efficient attention."""
    no_bias, no_causal_mask, for_backward = None, 0, True
    return torch.ops.aten._efficient_attention_forward(
        query[None], key[None], value[None], no_bias, *layout, dropout, no_causal_mask, for_backward, scale=scale
    )[0][0]


KERNELS: dict[torch.dtype, tuple[Kernel, ...]] = {
    torch.bfloat16: (flash, efficient),
    torch.float16: (flash, efficient),
    torch.float32: (efficient,),
}


def kernel_for(query: Tensor) -> Kernel | None:
    """The first operator that works for this type, head size and device; None: attention has to be padded.

    ``query``: (Q, heads, d). The operators read 16 bytes at once, so d has to be a multiple of 8.
    """
    size, dtype, device = query.shape[-1], query.dtype, query.device
    if size % 8 or size > 256:
        return None
    return next((kernel for kernel in KERNELS.get(dtype, ()) if works(kernel, dtype, size, device)), None)


@cache
def works(kernel: Kernel, dtype: torch.dtype, size: int, device: torch.device) -> bool:
    """Whether the operator runs on the device, and gives what the plain formula gives, with its gradients.

    On a GPU where it does not, a notice says why.

    ``size``: d, the head size. GPUs have other kernels for large heads.
    """
    if device.type != "cuda":
        return False
    try:
        with torch.random.fork_rng([device]), torch.inference_mode(False), torch.autocast("cuda", enabled=False):
            if _agrees(kernel, dtype, size, device):
                return True
            reason = "it does not agree with the plain formula"
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:  # none, or for other GPUs
        reason = str(error).partition("\n")[0]
    say(f"attention: torch's {kernel.__name__} operator is not used here ({reason}); a slower way gives the same")
    return False


@contextmanager
def _apart() -> Iterator[None]:
    """Inside of this context gradients are recorded, and a checkpoint around it does not see their tensors."""
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, lambda saved: saved):
        yield


@_apart()
def _agrees(kernel: Kernel, dtype: torch.dtype, size: int, device: torch.device) -> bool:
    tolerance = 1e-4 if dtype == torch.float32 else 5e-2
    bounds = torch.tensor([0, 3, 8], dtype=torch.int32, device=device)
    layout = Layout(bounds, bounds, 5, 5)
    query, key, value = (torch.randn(8, 2, size, dtype=dtype, device=device).requires_grad_() for _ in range(3))
    found, dropped = (kernel(query, key, value, layout, dropout, None) for dropout in (0.0, 0.5))
    exact = [part.detach().double().requires_grad_() for part in (query, key, value)]
    first, second = zip(*(part.transpose(0, 1).split([3, 5], dim=1) for part in exact), strict=True)
    expected = torch.cat([F.scaled_dot_product_attention(*parts) for parts in (first, second)], dim=1).transpose(0, 1)
    pairs = [
        (found, expected),
        *zip(
            torch.autograd.grad(found.float().square().sum(), (query, key, value)),
            torch.autograd.grad(expected.square().sum(), exact),
            strict=True,
        ),
    ]
    same = all(bool((a - b).abs().max() <= tolerance * b.abs().max()) for a, b in pairs)
    return same and bool(dropped.isfinite().all()) and not dropped.equal(found)
