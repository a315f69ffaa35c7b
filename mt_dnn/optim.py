"""Optimizers, parameter groups, Lookahead and learning-rate schedules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer, RAdam
from torch.optim.lr_scheduler import LambdaLR

from data_utils.errors import UserError, did_you_mean
from mt_dnn.apex import apex_class
from mt_dnn.sharded import own_parts

if TYPE_CHECKING:
    from mt_dnn.config import OptimizerConfig, ScheduleConfig
    from mt_dnn.model import Model

Groups = list[dict[str, Any]]


class AdamaxW(Adamax):
    """Adamax (Kingma & Ba 2015, algorithm 2) with decoupled weight decay (Loshchilov & Hutter 2019).

    p ← p·(1 − lr·wd), then u ← max(β₂·u, |g| + eps), p ← p − lr/(1 − β₁ᵗ)·m/u. Arguments: torch's Adamax.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            with_grad = [p for p in group["params"] if p.grad is not None]
            if decay and with_grad:
                torch._foreach_mul_(with_grad, 1 - group["lr"] * decay)
            group["weight_decay"] = 0.0  # Adamax would add it to the gradient
        super().step()
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        return loss


class Lookahead(Optimizer):
    """Slow weights φ around any optimizer: every k steps φ ← φ + α(θ − φ), θ ← φ (Zhang et al. 2019, alg. 1).

    φ is copied from θ at construction. Parameter groups and state are the inner optimizer's own objects,
    so that schedules, gradient scaling and clipping act on both.
    """

    def __init__(self, optimizer: Optimizer, steps: int = 5, alpha: float = 0.5) -> None:
        if steps < 1 or not 0 < alpha <= 1:
            raise ValueError(f"Lookahead needs steps >= 1 and 0 < alpha <= 1, got {steps} and {alpha}")
        self.optimizer, self.steps, self.alpha = optimizer, steps, alpha
        self._share()
        self.slow = [p.detach().clone() for p in self.fast]
        self.counter = 0

    @property
    def fast(self) -> list[Tensor]:
        """The inner optimizer's parameters θ, in the order of ``slow``."""
        return [p for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One inner step; every ``steps``-th one synchronises."""
        loss = self.optimizer.step(closure)
        self.counter = (self.counter + 1) % self.steps
        if self.counter == 0:
            fast, slow = own_parts(self.fast), own_parts(self.slow)
            torch._foreach_lerp_(slow, fast, self.alpha)
            torch._foreach_copy_(fast, slow)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the inner optimizer; its slow weights start now."""
        self.optimizer.add_param_group(param_group)
        self.slow += [p.detach().clone() for p in self.fast[len(self.slow) :]]

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's, with slow weights and counter under ``lookahead``."""
        own = {"counter": self.counter, "slow": list(self.slow)}
        return {**self.optimizer.state_dict(), "lookahead": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what ``state_dict`` gave."""
        own = state_dict["lookahead"]
        self.optimizer.load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._share()
        for slow, saved in zip(self.slow, own["slow"], strict=True):
            slow.copy_(saved)
        self.counter = own["counter"]

    def _share(self) -> None:
        # Not Optimizer.__init__: it would make a list of groups and a state of its own.
        shared = ("defaults", "state", "param_groups")
        self.__setstate__({name: getattr(self.optimizer, name) for name in shared})


def _common(config: OptimizerConfig) -> dict[str, Any]:
    eps = {} if config.eps is None else {"eps": config.eps}
    return {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay, **eps}


def _lamb(groups: Groups, config: OptimizerConfig) -> Optimizer:
    try:
        from pytorch_optimizer import Lamb
    except ModuleNotFoundError:
        raise UserError("optimizer.name: lamb needs a package more: pip install 'mt-dnn[lamb]'") from None
    # You et al. 2020, algorithm 2: decay counts in the trust ratio ("decoupled" would leave it out), and no
    # bias correction enlarges a step after the ratio has set its length, as by the package's default.
    return Lamb(_unsplit(groups, config), weight_decouple=False, adam_debias=True, **_common(config))


def _unsplit(groups: Groups, config: OptimizerConfig) -> Groups:
    """Raises UserError when weights are split over ranks, for optimizers that need them whole."""
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise UserError(
            f"optimizer.name: {config.name} cannot update weights that are split (distributed.strategy=fsdp); use adamw"
        )
    return groups


def _apex(name: str, instead: str, **options: Any) -> Callable[[Groups, OptimizerConfig], Optimizer]:
    def build(groups: Groups, config: OptimizerConfig) -> Optimizer:
        key = f"optimizer.name: {config.name}"
        kind = apex_class("optimizers", name, key, f"optimizer.name={instead}")
        try:
            return kind(_unsplit(groups, config), **options, **_common(config))
        except RuntimeError as error:  # built without CUDA extensions
            raise UserError(f"{key}: {error}; optimizer.name={instead} does the same without it") from None

    return build


# adamw and adam are fused, on CPUs too: one pass over the weights instead of about ten. (Fused SGD fails when some
# parameters have momentum and others, of heads not seen yet, have none.)
# Weight decay is decoupled in adamax, adamw and radam, part of the scaled update in lamb,
# and an L2 term added to the gradient in adam and sgd, as in the papers that use them.
OPTIMIZERS: dict[str, Callable[[Groups, OptimizerConfig], Optimizer]] = {
    "adamax": lambda groups, config: AdamaxW(groups, **_common(config)),
    "adamw": lambda groups, config: AdamW(groups, fused=True, **_common(config)),
    "adam": lambda groups, config: Adam(groups, fused=True, **_common(config)),
    "sgd": lambda groups, config: SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
    "radam": lambda groups, config: RAdam(groups, decoupled_weight_decay=True, **_common(config)),
    "lamb": _lamb,
    "apex_adamw": _apex("FusedAdam", "adamw", adam_w_mode=True),
    "apex_lamb": _apex("FusedLAMB", "lamb", max_grad_norm=math.inf),  # clipping is train.clip_norm's
}


def build_optimizer(model: Model, config: OptimizerConfig) -> Optimizer:
    """Freezes what ``config.freeze`` names, then builds the optimizer of the rest, with Lookahead if enabled.

    Call it before the model is wrapped for several devices.

    Raises:
        UserError: a pattern that matches nothing, nothing left to train, or a package that is not installed.
    """
    freeze(model, config.freeze)
    optimizer = OPTIMIZERS[config.name](parameter_groups(model, config), config)
    if not config.lookahead.enabled:
        return optimizer
    return Lookahead(optimizer, steps=config.lookahead.steps, alpha=config.lookahead.alpha)


def parameter_groups(model: Model, config: OptimizerConfig) -> Groups:
    """Trainable parameters grouped by weight decay, by depth with ``layer_decay``, and by their heads' ``lr_factors``.

    Vectors (biases, normalisation weights) never decay, nor what ``no_decay`` names (see ``freeze``) or has a factor.
    Heads and pooler have lr, the block below lr·layer_decay, and so on down to the embeddings.

    Raises:
        UserError: a ``no_decay`` pattern that matches nothing, or nothing is left to train.
    """
    exempt = _matching(model, config.no_decay, key="optimizer.no_decay")
    top = model.encoder.num_layers + 1
    factors = {
        f"heads.{name}.{own}": factor
        for name, head in model.heads.items()
        for own, factor in getattr(head, "lr_factors", {}).items()
    }
    groups: dict[tuple[int, bool, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays, factor = parameter.ndim > 1 and name not in exempt and name not in factors, factors.get(name, 1.0)
        below = top - _depth(model, name) if config.layer_decay < 1 else 0
        lr, weight_decay = config.lr * factor * config.layer_decay**below, config.weight_decay if decays else 0.0
        group = {"params": [], "lr": lr, "weight_decay": weight_decay}
        groups.setdefault((below, decays, factor), group)["params"].append(parameter)
    if not groups:
        raise UserError("optimizer.freeze: no parameter is left to train")
    return list(groups.values())


def freeze(model: Model, patterns: Sequence[str]) -> None:
    """Turns gradients off for ``embeddings``, ``layers:0-5`` (first and last, from 0) or patterns of names.

    Raises:
        UserError: a pattern that matches nothing, or layers that the encoder does not have.
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
    """Depths that ``embeddings`` or ``layers:first-last`` names; none for a pattern of parameter names."""
    if not pattern.startswith("layers:"):
        return range(1) if pattern == "embeddings" else range(0)
    numbers = re.fullmatch(r"layers:(\d+)(?:-(\d+))?", pattern)
    first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, -1)
    if not first <= last < num_layers:
        raise UserError(f"{key}: '{pattern}': write layers:first-last within 0-{num_layers - 1}")
    return range(first + 1, last + 2)


def _depth(model: Model, name: str) -> int:
    """0 embeddings, r = block r counted from 1, num_layers + 1 everything above."""
    part, _, inner = name.partition(".")
    return model.encoder.depth_of(inner) if part == "encoder" else model.encoder.num_layers + 1


# Learning-rate factor after warm-up; x falls from 1 to 0 over the remaining updates.
SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda x, power: x,
    "cosine": lambda x, power: (1 - math.cos(math.pi * x)) / 2,
    "constant": lambda x, power: 1.0,
    "polynomial": lambda x, power: x**power,
}


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, total_steps: int) -> LambdaLR:
    """Linear warm-up from 0 over ``warmup_fraction`` of the updates, then the shape, 0 after the last one."""
    warmup = round(config.warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        remaining = (total_steps - step) / max(total_steps - warmup, 1)
        return SHAPES[config.name](max(remaining, 0.0), config.power)

    return LambdaLR(optimizer, factor)
