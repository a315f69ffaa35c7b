"""Counts what a training step asks the device to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result the host has to read, or whose result has a shape that depends on numbers. On a GPU the host
# waits for them.
WAITS = (
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "nonzero_numpy",
    "masked_select",
    "equal",
    "unique_dim",
    "unique_consecutive",
    "_unique2",
)
# Operations that only allocate memory.
ALLOCATIONS = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_")
COPIES = ("_to_copy", "copy_")


class Counted(TorchDispatchMode):
    """Counts operations as long as it is active, in forward and backward passes and in the optimizer.

    ``operations``: calls that compute something, each a kernel or more on a GPU. Views and allocations do not count.
    ``waits``: operations that the host waits for on a GPU. ``copies``: copies between devices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()
        self.operations = self.waits = self.copies = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.is_view or name in ALLOCATIONS:
            return result
        self.operations += 1
        self.by_name[name] += 1
        moved = name in COPIES and _devices(args) != _devices([result])
        self.copies += moved
        to_host = moved and isinstance(result, Tensor) and result.device.type == "cpu"
        self.waits += to_host or name in WAITS or _reads_mask(name, args)
        return result

    @property
    def figures(self) -> dict[str, int]:
        """The counts by name."""
        return {"operations": self.operations, "waits": self.waits, "copies": self.copies}


def _devices(values: Sequence[Any]) -> set[torch.device]:
    """The devices of the tensors among the values. A tensor without dimensions is a number and counts for none."""
    return {value.device for value in values if isinstance(value, Tensor)}


def _reads_mask(name: str, args: Sequence[Any]) -> bool:
    """Whether an operation selects entries by a mask of truth values, as ``values[mask]`` does."""
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return False
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
