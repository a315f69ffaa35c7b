"""Changes a loaded encoder to save memory or time. Its results stay the same up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from data_utils.errors import UserError
from mt_dnn.apex import apex_class
from mt_dnn.encoders.dropout import in_this_pass
from mt_dnn.encoders.encoder import Encoder


def fuse_layer_norms(module: nn.Module) -> None:
    """Replaces every LayerNorm inside the module by apex's FusedLayerNorm. Weights and their names stay the same.

    Raises:
        UserError: apex is not installed, or was built without its CUDA extensions.
    """
    key, instead = "train.apex_layer_norm", "train.apex_layer_norm=false"
    fused_type = apex_class("normalization", "FusedLayerNorm", key, instead)
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.LayerNorm:
                try:
                    fused = fused_type(child.normalized_shape, eps=child.eps)
                except (ImportError, RuntimeError) as error:
                    raise UserError(f"{key}: {error}; use {instead} without it") from None
                fused.load_state_dict(child.state_dict())
                setattr(parent, name, fused)


def compile_blocks(encoder: Encoder) -> None:
    """Compiles the blocks of the encoder with ``torch.compile``. Attention is not compiled (see attention.py)."""
    torch._functorch.config.donated_buffer = False  # adversaries go backward twice through one graph
    for block in encoder.blocks:
        block.forward = torch.compile(block.forward, dynamic=True)


def recompute_activations(encoder: Encoder) -> None:
    """Makes each block keep only its input. In the backward pass the block runs again, with the same dropout masks."""
    for block in encoder.blocks:
        block.forward = _checkpointed(block.forward)  # forward hooks of the block run once


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(in_this_pass(forward), *args, use_reentrant=False, **kwargs)

    return run
