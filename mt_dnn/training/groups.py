"""Parameter groups: which parameters are trained, with which learning rate and which weight decay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from data_utils.errors import UserError, did_you_mean
from mt_dnn.tasks.model import Model

Groups = list[dict[str, Any]]


def parameter_groups(
    model: Model,
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = (),
    head_lr: float | None = None,
) -> Groups:
    """Groups the trainable parameters by learning rate and weight decay, as torch's optimizers take them.

    Learning rate: heads and pooler have ``lr``, the top block has lr·layer_decay, the block below it lr·layer_decay²,
    and so on down to the embeddings. ``head_lr`` is the rate of heads, if it is given. A head may multiply the rate of
    some of its parameters by its ``lr_factors``.

    Weight decay: vectors (biases, normalisation weights) have none. Parameters with a factor in ``lr_factors`` and
    parameters that ``no_decay`` names have none either. ``no_decay`` has the same patterns as ``freeze``. The vectors
    of an IA3 adapter, which are matrices with one row or column, have none.

    Raises:
        UserError: a pattern of ``no_decay`` matches nothing, or no parameter is left to train.
    """
    exempt = _matching(model, no_decay, key="optimizer.no_decay")
    top = model.encoder.num_layers + 1
    factors = {
        f"heads.{task}.{name}": factor
        for task, head in model.heads.items()
        for name, factor in getattr(head, "lr_factors", {}).items()
    }
    groups: dict[tuple[int, bool, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim > 1 and name not in exempt and name not in factors and ".ia3_l." not in name
        rate = factors.get(name, 1.0) * (head_lr if head_lr and name.startswith("heads.") else lr)
        below = top - _depth(model, name) if layer_decay < 1 else 0
        group = {
            "params": [],
            "lr": rate * layer_decay**below,
            "weight_decay": weight_decay if decays else 0.0,
        }
        groups.setdefault((below, decays, rate), group)["params"].append(parameter)
    if not groups:
        raise UserError("optimizer.freeze: no parameter is left to train; freeze fewer parameters")
    return list(groups.values())


def freeze(model: Model, patterns: Sequence[str]) -> None:
    """Turns off the gradients of the parameters that the patterns name.

    Args:
        patterns: each is ``embeddings``, ``layers:0-5`` (first and last block, counted from 0), or a pattern of
            parameter names such as ``heads.rte.*``.

    Raises:
        UserError: a pattern matches nothing, or it names layers that the encoder does not have.
    """
    frozen = _matching(model, patterns, key="optimizer.freeze")
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def _matching(model: Model, patterns: Sequence[str], *, key: str) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    matched: set[str] = set()
    for pattern in patterns:
        depths = _depths(pattern, model.encoder.num_layers, key=key)
        found = {name for name in names if fnmatchcase(name, pattern) or _depth(model, name) in depths}
        if not found:
            hint = did_you_mean(pattern, names) or f" (names are like {names[0]})"
            raise UserError(f"{key}: '{pattern}' matches no parameter{hint}")
        matched |= found
    return matched


def _depths(pattern: str, num_layers: int, *, key: str) -> range:
    """The depths that ``embeddings`` or ``layers:first-last`` names. Empty for a pattern of parameter names."""
    if not pattern.startswith("layers:"):
        return range(1) if pattern == "embeddings" else range(0)
    numbers = re.fullmatch(r"layers:(\d+)(?:-(\d+))?", pattern)
    first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, -1)
    if not first <= last < num_layers:
        raise UserError(f"{key}: '{pattern}': write layers:first-last with numbers from 0 to {num_layers - 1}")
    return range(first + 1, last + 2)


def _depth(model: Model, name: str) -> int:
    """The depth of a parameter: 0 in the embeddings, r in block r (from 1), num_layers + 1 above the blocks."""
    part, _, inner = name.partition(".")
    return model.encoder.depth_of(inner) if part == "encoder" else model.encoder.num_layers + 1
