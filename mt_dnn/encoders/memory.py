"""Changes to an encoder that save memory or time and leave its results alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from data_utils.errors import UserError
from mt_dnn.apex import apex_class


def fuse_layer_norms(module: nn.Module) -> None:
    """Replaces every LayerNorm inside the module by apex's, with the same weights under the same names.

    Raises:
        UserError: apex is not there, or was built without CUDA extensions.
    """
    key, instead = "train.apex_layer_norm", "train.apex_layer_norm=false"
    fused_type = apex_class("normalization", "FusedLayerNorm", key, instead)
    for owner in list(module.modules()):
        for name, child in owner.named_children():
            if type(child) is nn.LayerNorm:
                try:
                    fused = fused_type(child.normalized_shape, eps=child.eps)
                except (ImportError, RuntimeError) as error:
                    raise UserError(f"{key}: {error}; {instead} does the same without it") from None
                fused.load_state_dict(child.state_dict())
                setattr(owner, name, fused)


def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function under activation checkpointing; dropout masks repeat."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
