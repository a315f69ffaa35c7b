"""The model as several ranks train it: DistributedDataParallel around ``resume``."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mt_dnn.batch import Batch
from mt_dnn.distributed import world_size
from mt_dnn.model import Model


class Parallel:
    """``resume`` of a model, and whether the next backward pass synchronises gradients.

    Word embeddings are looked up outside of it; they are part of the graph of what comes out, where
    DistributedDataParallel looks for the parameters that a pass uses: one head at a time, so it has to look.
    """

    def __init__(self, model: Model) -> None:
        self.synchronise = True
        self.resume: Any = model.resume
        if world_size() > 1:
            known = inspect.signature(DistributedDataParallel).parameters
            buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before 2.13
            options: dict[str, Any] = {buffers: False, "find_unused_parameters": True, "gradient_as_bucket_view": True}
            self.wrapped = DistributedDataParallel(_Resume(model), **options)
            self.resume = self._synchronised

    def _synchronised(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        self.wrapped.require_backward_grad_sync = self.synchronise
        return self.wrapped(state, level, batch)


class _Resume(nn.Module):
    """``resume`` as a forward pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        return self.model.resume(state, level, batch)
