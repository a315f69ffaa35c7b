"""The model as several ranks train it: whole on each of them (DDP), or split over them (FSDP)."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from mt_dnn.batches.batch import Batch
from mt_dnn.distributed.ranks import world_size
from mt_dnn.tasks.model import Model


def distribute(model: Model, device: torch.device, strategy: str = "ddp") -> Model:
    """The model on its device: whole with ``ddp``, with ``fsdp`` each rank's part of every weight.

    FSDP2 gathers the weights of a block, of the word embeddings and of all the rest when they are needed. Optimizers
    have to be built after it, copies made before it. One process holds everything either way.
    """
    if strategy == "ddp" or world_size() == 1:
        return model.to(device)
    mesh = init_device_mesh(device.type, (world_size(),))
    words = model.encoder.model.get_input_embeddings()
    for part in (*model.encoder.blocks, words, model):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    assert isinstance(words, FSDPModule) and isinstance(model, FSDPModule)
    words.set_unshard_in_backward(False)  # a look-up needs no weights to go backward
    model.set_reshard_after_backward(False, recurse=False)  # several forward passes before one backward pass use it
    for verb in ("upto", "resume"):
        register_fsdp_forward_method(model, verb)
    return model


class Parallel:
    """``resume`` of a model, and whether the next backward pass synchronises gradients.

    Word embeddings are looked up outside of it; they are part of the graph of what comes out, where
    DistributedDataParallel looks for the parameters that a pass uses: one head at a time, so it has to look.
    """

    def __init__(self, model: Model, *, alone: bool = False) -> None:
        """``alone``: this rank trains without the others."""
        self.model = model
        self.resume: Any = model.resume
        self.wrapped: DistributedDataParallel | None = None
        if world_size() > 1 and not alone and not isinstance(model, FSDPModule):
            known = inspect.signature(DistributedDataParallel).parameters
            buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before 2.13
            options: dict[str, Any] = {buffers: False, "find_unused_parameters": True, "gradient_as_bucket_view": True}
            self.wrapped = DistributedDataParallel(_Resume(model), **options)
            self.resume = self.wrapped

    def synchronise(self, enabled: bool) -> None:
        """Whether the coming backward passes sum gradients over the ranks, along with those that have not been."""
        if self.wrapped is not None:
            self.wrapped.require_backward_grad_sync = enabled
        elif isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(enabled)

    def end_of_backward(self) -> None:
        """The last backward pass before an optimizer step is done."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # what is not part of a block stayed whole until here


class _Resume(nn.Module):
    """``resume`` as a forward pass."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor, level: int, batch: Batch) -> Tensor:
        return self.model.resume(state, level, batch)
