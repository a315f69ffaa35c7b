"""The state of an optimizer as named tensors, for files that can hold tensors only."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from data_utils.errors import UserError
from mt_dnn.distributed.sharded import as_split
from mt_dnn.training.optimizers import Lookahead

GROUP_NUMBERS = ("lr", "step")  # the numbers of a group that change in a run; LAMB counts its steps there


def optimizer_tensors(optimizer: Optimizer, names: Mapping[Any, str]) -> dict[str, Tensor]:
    """The state of the optimizer as tensors by name.

    The names are ``<parameter>::exp_avg``, ``lookahead::<parameter>``, ``group::0::lr`` and so on. Tensors share memory
    with the optimizer; scalars are copies.

    Args:
        names: the name of each parameter.
    """
    # Scalars are cloned: they may share memory, which safetensors refuses.
    state = {
        f"{names[parameter]}::{kind}": value.clone() if value.ndim == 0 else value
        for parameter, values in optimizer.state.items()
        for kind, value in values.items()
    }
    return {**_fixed_tensors(optimizer, names), **state}


@torch.no_grad()
def load_optimizer_tensors(optimizer: Optimizer, names: Mapping[Any, str], tensors: Mapping[str, Tensor]) -> None:
    """Restores what ``optimizer_tensors`` returned, bit for bit. Build the schedule first, because that sets lr.

    Raises:
        UserError: keys are missing or unexpected (from another optimizer or other parameters), or a shape differs.
            The optimizer is then unchanged.
    """
    owner = {names[p]: p for group in optimizer.param_groups for p in group["params"]}
    _check_tensors(owner, _fixed_tensors(optimizer, names), tensors)
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, kind = key.partition("::")
        if name in owner:
            counts_on_cpu = kind == "step" and not optimizer.defaults.get("fused")  # as torch's optimizers do
            device = "cpu" if counts_on_cpu else owner[name].device
            optimizer.state[owner[name]][kind] = as_split(value, owner[name]).to(device, copy=True)
        elif name == "group":
            index, _, number = kind.partition("::")
            optimizer.param_groups[int(index)][number] = value.item()
    if isinstance(optimizer, Lookahead):
        optimizer.counter = int(tensors["lookahead::counter"])
        for parameter, slow in zip(optimizer.fast, optimizer.slow, strict=True):
            slow.copy_(as_split(tensors[f"lookahead::{names[parameter]}"], slow))


def _fixed_tensors(optimizer: Optimizer, names: Mapping[Any, str]) -> dict[str, Tensor]:
    """The state that exists before the first step: class of the optimizer, numbers of the groups, slow weights."""
    inner = optimizer.optimizer if isinstance(optimizer, Lookahead) else optimizer
    fixed = {f"class::{type(inner).__name__}": torch.empty(0)}
    for index, group in enumerate(optimizer.param_groups):
        for number in GROUP_NUMBERS:
            if number in group:
                kind = torch.int64 if number == "step" else torch.float64
                fixed[f"group::{index}::{number}"] = torch.tensor(group[number], dtype=kind)
    if isinstance(optimizer, Lookahead):
        fixed["lookahead::counter"] = torch.tensor(optimizer.counter)
        fixed |= {f"lookahead::{names[p]}": s for p, s in zip(optimizer.fast, optimizer.slow, strict=True)}
    return fixed


def _check_tensors(owner: Mapping[str, Tensor], fixed: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Compares the tensors with those that the optimizer needs.

    A parameter that has had a gradient has state of every kind (``exp_avg``, …). Other parameters have no state.

    Raises:
        UserError: see ``load_optimizer_tensors``.
    """
    keys = [key.partition("::") for key in tensors]
    started = {name for name, _, _ in keys if name in owner}
    kinds = {kind for name, _, kind in keys if name in owner}
    state = {f"{name}::{kind}": owner[name] for name in started for kind in kinds}
    counts = {key: torch.empty(()) for key in tensors if re.fullmatch(r"group::\d+::step", key)}
    expected = {**counts, **fixed, **state}
    common = expected.keys() & tensors.keys()
    faults = {
        "missing": expected.keys() - common,
        "unexpected": tensors.keys() - common,
        "another shape": {k for k in common if tensors[k].ndim and tensors[k].shape != expected[k].shape},
    }
    if found := [f"{fault}: {_some(keys)}" for fault, keys in faults.items() if keys]:
        raise UserError(f"optimizer state does not fit these settings; use those of the saved run ({'; '.join(found)})")


def _some(keys: Collection[str], limit: int = 5) -> str:
    """The first keys, and how many more there are."""
    shown = ", ".join(sorted(keys)[:limit])
    return shown if len(keys) <= limit else f"{shown} and {len(keys) - limit} more"
