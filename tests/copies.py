"""Copies of models, for tests that each need a fresh one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def fresh(model: Any) -> Any:
    """A copy of a model with its own modules, parameters and buffers. Its config is shared.

    ``copy.deepcopy`` copies the dozen empty dictionaries of each module one by one, which takes several times as long.
    """
    return _copied(model, {})


def _copied(one: Any, made: dict[int, Any]) -> Any:
    """The copy of a module or tensor. ``made``: those that were copied before, so that tied weights stay tied."""
    if id(one) not in made:
        if isinstance(one, nn.Module):
            made[id(one)] = _copied_module(one, made)
        elif isinstance(one, nn.Parameter):
            made[id(one)] = nn.Parameter(one.detach().clone(), one.requires_grad)
        else:
            made[id(one)] = None if one is None else one.detach().clone()
    return made[id(one)]


def _copied_module(module: nn.Module, made: dict[int, Any]) -> nn.Module:
    copied = module.__class__.__new__(module.__class__)
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            value = {own: _copied(part, made) for own, part in value.items()}
        elif isinstance(value, dict | list | set):
            assert not (value and name.endswith("_hooks")), f"{name} may know the module that is copied"
            value = value.copy()
        assert not isinstance(value, nn.Module | Tensor), f"{name} would be shared"
        copied.__dict__[name] = value
    return copied
