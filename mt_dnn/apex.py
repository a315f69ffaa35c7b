"""NVIDIA apex, where it is installed: fused CUDA kernels for optimizers and LayerNorm."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from data_utils.errors import UserError


def apex_class(module: str, name: str, key: str, instead: str) -> Any:
    """Imports a class of apex.

    Args:
        module: the module of the class, without ``apex.``.
        key: the setting that asks for apex, for the error message.
        instead: the setting to use without apex, for the error message.

    Raises:
        UserError: NVIDIA's apex is not installed, or the installed package ``apex`` is another project.
    """
    try:
        return getattr(import_module(f"apex.{module}"), name)
    except (ImportError, AttributeError):
        raise UserError(
            f"{key}: NVIDIA's apex is not installed (https://github.com/NVIDIA/apex; `pip install apex` installs "
            f"another project); use {instead} without it"
        ) from None
