"""NVIDIA apex, where it is installed: fused CUDA kernels for optimizers and LayerNorm."""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
