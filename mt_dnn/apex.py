"""NVIDIA apex, where it is installed: fused CUDA kernels for optimizers and LayerNorm."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from data_utils.errors import UserError


def apex_class(module: str, name: str, key: str, instead: str) -> Any:
    """A class of apex that the setting ``key`` asks for.

    Raises:
        UserError: apex is not installed, or it is the other project of that name.
    """
    try:
        return getattr(import_module(f"apex.{module}"), name)
    except (ImportError, AttributeError):
        raise UserError(
            f"{key}: NVIDIA's apex is not installed (https://github.com/NVIDIA/apex; `pip install apex` gets another "
            f"project); {instead} does the same without it"
        ) from None


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
