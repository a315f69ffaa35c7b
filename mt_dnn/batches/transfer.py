"""Moves several tensors to an accelerator with one copy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

ALIGNMENT = 16  # bytes; every tensor begins at a multiple


def moved(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on another device, by name. From the CPU they go to an accelerator in one copy.

    The process does not wait for the copy, because it starts from pinned memory.
    """
    if device.type in ("cpu", "meta"):
        return {name: value.to(device) for name, value in tensors.items()}
    return unpacked(packed(tensors).pin_memory().to(device, non_blocking=True), tensors)


def packed(tensors: Mapping[str, Tensor]) -> Tensor:
    """One tensor with the bytes of all tensors, in their order."""
    buffer = torch.empty(sum(map(_room, tensors.values())), dtype=torch.uint8)
    for value, part in zip(tensors.values(), unpacked(buffer, tensors).values(), strict=True):
        part.copy_(value)
    return buffer


def unpacked(buffer: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Views of the parts of ``buffer`` that ``packed(like)`` has filled, by name, with these types and shapes."""
    parts, start = {}, 0
    for name, value in like.items():
        parts[name] = buffer[start : start + value.nbytes].view(value.dtype).view(value.shape)
        start += _room(value)
    return parts


def _room(value: Tensor) -> int:
    return -(-value.nbytes // ALIGNMENT) * ALIGNMENT
