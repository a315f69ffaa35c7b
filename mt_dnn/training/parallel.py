"""One model that several ranks train. Each rank holds all of its weights (DDP) or a part of them (FSDP)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from mt_dnn.batches.batch import Batch
from mt_dnn.distributed.ranks import all_reduce_sum, world_size
from mt_dnn.encoders.encoder import Level
from mt_dnn.tasks.model import Model


def distribute(model: Model, device: torch.device, strategy: str = "ddp") -> Model:
    """Moves the model to this rank's device, in place, and returns it.

    With ``ddp`` a rank holds every weight. With ``fsdp`` it holds a part of every weight. A single process always holds
    every weight.

    FSDP2 gathers the weights of a block when the block runs. The word embeddings are gathered by themselves, and the
    other weights together. Make copies of the model before this call, and optimizers after it.
    """
    if strategy == "ddp" or world_size() == 1:
        return model.to(device)
    mesh = init_device_mesh(device.type, (world_size(),))
    words = model.encoder.model.get_input_embeddings()
    for module in (*model.encoder.blocks, words, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    assert isinstance(words, FSDPModule) and isinstance(model, FSDPModule)
    words.set_unshard_in_backward(False)  # the gradient of a look-up needs no weights
    model.set_reshard_after_backward(False, recurse=False)  # an update makes several passes with these weights
    for method in ("upto", "resume"):
        register_fsdp_forward_method(model, method)
    return model


class Parallel:
    """A model, and how its backward passes sum gradients over ranks. Give it a model after ``distribute``.

    DistributedDataParallel wraps ``resume`` only. Word embeddings are looked up outside of the wrapper, but they are
    part of the graph of its result. A pass uses the head of one task only, and some heads read no pooler. So the
    wrapper leaves out all parameters above the blocks. Their gradients are summed at the end of a round
    (``end_of_backward``). Every pass uses each of the others, so the wrapper need not search the graph for them, which
    would cost time in each pass. Families that run padded may have parameters that a pass does not use. There the
    wrapper searches.

    Args:
        alone: this rank trains without the other ranks.
    """

    def __init__(self, model: Model, *, alone: bool = False) -> None:
        self.model, self.alone = model, alone

    @property
    def resume(self) -> Callable[[Tensor, Level, Batch], Tensor]:
        """``model.resume``, through DistributedDataParallel if the model is wrapped."""
        return self.model.resume if self._wrapped is None else self._wrapped

    @property
    def shared(self) -> bool:
        """True if several ranks train the model together."""
        return world_size() > 1 and not self.alone

    @property
    def gathers(self) -> bool:
        """True if the weights of a block are gathered when it runs (fsdp)."""
        return isinstance(self.model, FSDPModule)

    @cached_property
    def _above_blocks(self) -> dict[str, nn.Parameter]:
        """The trained parameters of heads, pooler and scalar mix, by name."""
        encoder = self.model.encoder
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
            and (name.startswith("heads.") or encoder.depth_of(name.removeprefix("encoder.")) == encoder.num_layers + 1)
        }

    @cached_property
    def _wrapped(self) -> DistributedDataParallel | None:
        if not self.shared or isinstance(self.model, FSDPModule):
            return None
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        if not trained - self._above_blocks.keys():
            return None  # nothing to wrap: only heads are trained
        known = inspect.signature(DistributedDataParallel).parameters
        renamed = "forward_sync_buffers" in known  # since torch 2.13
        buffers = "forward_sync_buffers" if renamed else "broadcast_buffers"
        searches = self.model.encoder.attention == "padded"
        options: dict[str, Any] = {buffers: False, "find_unused_parameters": searches, "gradient_as_bucket_view": True}
        module = _Resume(self.model)
        left_out = [f"model.{name}" for name in self._above_blocks]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, left_out)
        return DistributedDataParallel(module, **options)

    def synchronise(self, enabled: bool) -> None:
        """Turns the sum of gradients over ranks on or off.

        A backward pass with the sum on also sums the gradients that earlier passes left.
        """
        if self._wrapped is not None:
            self._wrapped.require_backward_grad_sync = enabled
        elif isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(enabled)

    def end_of_backward(self) -> None:
        """Ends a round of backward passes. Call it before an optimizer step.

        With ddp it sums the gradients that the wrapper leaves out. With fsdp it frees the weights that were gathered.
        """
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # weights outside of blocks have stayed gathered until here
        elif self.shared:
            average_over_ranks([p.grad for p in self._above_blocks.values() if p.grad is not None])


def average_over_ranks(gradients: Sequence[Tensor]) -> None:
    """Sets each gradient to its mean over ranks, with one message.

    All ranks need gradients of the same parameters. So a head gives each of its parameters a gradient, zero if its rows
    do not use one.
    """
    if not gradients:
        return
    flat = all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]) / world_size())
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(list(gradients), [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


class _Resume(nn.Module):
    """A module whose forward pass is the model's ``resume``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, state: Tensor, level: Level, batch: Batch) -> Tensor:
        return self.model.resume(state, level, batch)
