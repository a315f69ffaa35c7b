"""Optimizers by name, and Lookahead around any of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer, RAdam

from data_utils.errors import UserError
from mt_dnn.apex import apex_class
from mt_dnn.distributed.sharded import local_parts
from mt_dnn.section import PositiveInt, Section
from mt_dnn.tasks.model import Model
from mt_dnn.training.groups import Groups, freeze, parameter_groups

Beta = Annotated[float, Field(ge=0, lt=1)]
SLICE = 2**15  # entries; torch gives so many to one thread, and four tensors of them fit into the cache of a core


class LookaheadConfig(Section):
    """Slow weights around any optimizer (Zhang et al. 2019)."""

    enabled: bool = Field(True, description="false: the optimizer alone")
    steps: PositiveInt = Field(5, description="updates between two synchronisations")
    alpha: float = Field(0.5, gt=0, le=1, description="how far slow weights move towards fast ones, as a share")


class OptimizerConfig(Section):
    """The optimizer and its parameter groups."""

    name: Literal["adamax", "adamw", "adam", "sgd", "radam", "lamb", "apex_adamw", "apex_lamb"] = Field(
        "adamax",
        description="adamax and radam decay weights as adamw does; lamb needs the extra lamb, apex_… NVIDIA apex",
    )
    lr: float = Field(5e-5, gt=0, description="peak learning rate")
    head_lr: float | None = Field(
        None, gt=0, description="peak learning rate of heads, which the log then shows; default: lr"
    )
    weight_decay: float = Field(0.01, ge=0, description="weight decay; biases and normalisation weights have none")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="not sgd: decay rates of the running means")
    eps: float | None = Field(None, ge=0, description="not sgd: added to the divisor; default: the optimizer's default")
    momentum: float = Field(0.0, ge=0, description="sgd only")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate for each block, from the top down"
    )
    freeze: tuple[str, ...] = Field(
        (), description="not trained: embeddings, layers:0-5, or patterns of parameter names"
    )
    no_decay: tuple[str, ...] = Field((), description="patterns as in freeze: these parameters have no weight decay")
    lookahead: LookaheadConfig = LookaheadConfig()

    @model_validator(mode="after")
    def _all_read(self) -> OptimizerConfig:
        reads = {"momentum"} if self.name == "sgd" else {"betas", "eps"}
        self._refuse_unread(self.name, {"momentum", "betas", "eps"}, reads)
        return self


class AdamaxW(Adamax):
    """Adamax (Kingma & Ba 2015, algorithm 2) with decoupled weight decay (Loshchilov & Hutter 2019).

    p ← p·(1 − lr·wd), then u ← max(β₂·u, |g| + eps), p ← p − lr/(1 − β₁ᵗ)·m/u. Arguments: torch's Adamax.

    torch makes one pass over memory for each operation. One thread on a CPU updates slices that stay in its cache from
    one operation to the next. Several threads would have to be woken for each of them.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            with_grad = [p for p in group["params"] if p.grad is not None]
            if decay and with_grad:
                torch._foreach_mul_(with_grad, 1 - group["lr"] * decay)
            group["weight_decay"] = 0.0  # or Adamax would add the decay to the gradient
        super().step()
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        return loss

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        """Fills the lists of parameters, gradients, means, norms and numbers of steps that torch's ``step`` reads."""
        is_complex: bool = super()._init_group(group, *lists)
        if torch.get_num_threads() == 1:
            rows = [row for tensors in zip(*lists, strict=True) for row in in_slices(*tensors)]
            for values, sliced in zip(lists, zip(*rows, strict=True), strict=False):  # there may be no rows
                values[:] = sliced
        return is_complex


def in_slices(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Views of slices of tensors of one shape, each with a number of steps of its own, which comes last in ``tensors``.

    A large tensor that is not on a CPU, or not in one piece of memory, stays as it is.
    """
    *entries, steps = tensors
    first = entries[0]
    plain = first.device.type == "cpu" and not isinstance(first, DTensor)
    if first.numel() <= SLICE or not plain or not all(part.is_contiguous() for part in entries):
        return [tensors]
    slices = zip(*(part.view(-1).split(SLICE) for part in entries), strict=True)
    return [(*parts, steps.clone() if number else steps) for number, parts in enumerate(slices)]


class Lookahead(Optimizer):
    """Slow weights φ around any optimizer: every k steps φ ← φ + α(θ − φ), θ ← φ (Zhang et al. 2019, alg. 1).

    φ is copied from θ at construction. Lookahead and the inner optimizer share the same parameter groups and the same
    state objects, so schedules, gradient scaling and clipping act on both.
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
        """Makes one step of the inner optimizer. After every ``steps``-th step, moves φ and sets θ to φ."""
        loss = self.optimizer.step(closure)
        self.counter = (self.counter + 1) % self.steps
        if self.counter == 0:
            fast, slow = local_parts(self.fast), local_parts(self.slow)
            torch._foreach_lerp_(slow, fast, self.alpha)
            torch._foreach_copy_(fast, slow)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the inner optimizer. Its slow weights are copied from the parameters now."""
        self.optimizer.add_param_group(param_group)
        self.slow += [p.detach().clone() for p in self.fast[len(self.slow) :]]

    def state_dict(self) -> dict[str, Any]:
        """The state of the inner optimizer, with slow weights and counter under ``lookahead``."""
        lookahead = {"counter": self.counter, "slow": list(self.slow)}
        return {**self.optimizer.state_dict(), "lookahead": lookahead}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        lookahead = state_dict["lookahead"]
        self.optimizer.load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._share()
        for slow, saved in zip(self.slow, lookahead["slow"], strict=True):
            slow.copy_(saved)
        self.counter = lookahead["counter"]

    def _share(self) -> None:
        # Optimizer.__init__ would create a second list of groups and a second state.
        shared = ("defaults", "state", "param_groups")
        self.__setstate__({name: getattr(self.optimizer, name) for name in shared})


def _common(config: OptimizerConfig) -> dict[str, Any]:
    """The arguments that all optimizers but SGD take."""
    eps = {} if config.eps is None else {"eps": config.eps}
    return {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay, **eps}


def _lamb(groups: Groups, config: OptimizerConfig) -> Optimizer:
    try:
        from pytorch_optimizer import Lamb
    except ModuleNotFoundError:
        raise UserError(
            "optimizer.name: lamb needs one more package. Install it with: pip install 'mt-dnn[lamb]'"
        ) from None
    # As in version 3 of the paper (You et al., arXiv 1904.00962v3): the decay is part of the trust ratio, which
    # weight_decouple would leave out, and there is no bias correction. The package's default corrects after the ratio
    # has set the length of the step. The ratio counts a weight's norm as 10 at most, the package's choice.
    return Lamb(_unsplit(groups, config), weight_decouple=False, adam_debias=True, **_common(config))


def _unsplit(groups: Groups, config: OptimizerConfig) -> Groups:
    """Returns the groups unchanged. For optimizers that cannot update weights that are split over ranks.

    Raises:
        UserError: weights are split over ranks.
    """
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group["params"]):
        raise UserError(
            f"optimizer.name: {config.name} cannot update weights that fsdp splits over ranks; use adamw, or "
            "distributed.strategy=ddp"
        )
    return groups


def _apex(name: str, instead: str, **options: Any) -> Callable[[Groups, OptimizerConfig], Optimizer]:
    """A function that builds the optimizer class ``name`` of apex. ``instead``: our optimizer to use without apex."""

    def build(groups: Groups, config: OptimizerConfig) -> Optimizer:
        key = f"optimizer.name: {config.name}"
        kind = apex_class("optimizers", name, key, f"optimizer.name={instead}")
        try:
            return kind(_unsplit(groups, config), **options, **_common(config))
        except RuntimeError as error:  # apex was built without its CUDA extensions
            raise UserError(f"{key}: {error}; use optimizer.name={instead} without it") from None

    return build


# adamw and adam are fused, on CPUs too: they make one pass over the weights instead of about ten. SGD is not fused: it
# would fail when some parameters have momentum and others, such as those of heads not trained so far, have none yet.
# Weight decay: adamax, adamw and radam decouple it. In lamb it is part of the scaled update. adam and sgd add it to the
# gradient as an L2 term, as in the papers that use them.
OPTIMIZERS: dict[str, Callable[[Groups, OptimizerConfig], Optimizer]] = {
    "adamax": lambda groups, config: AdamaxW(groups, **_common(config)),
    "adamw": lambda groups, config: AdamW(groups, fused=True, **_common(config)),
    "adam": lambda groups, config: Adam(groups, fused=True, **_common(config)),
    "sgd": lambda groups, config: SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
    "radam": lambda groups, config: RAdam(groups, decoupled_weight_decay=True, **_common(config)),
    "lamb": _lamb,
    "apex_adamw": _apex("FusedAdam", "adamw", adam_w_mode=True),
    # As lamb: no bias correction, and a trust ratio for weights without decay too. train.clip_norm does the clipping.
    "apex_lamb": _apex("FusedLAMB", "lamb", bias_correction=False, use_nvlamb=True, max_grad_norm=math.inf),
}


def build_optimizer(model: Model, config: OptimizerConfig) -> Optimizer:
    """Freezes the parameters that ``config.freeze`` names. Builds an optimizer for the others, in Lookahead if enabled.

    Call it after ``distribute``, which may split weights, and before ``Parallel`` wraps the model.

    Raises:
        UserError: a pattern matches nothing, no parameter is left to train, or a package is not installed.
    """
    freeze(model, config.freeze)
    groups = parameter_groups(
        model,
        lr=config.lr,
        weight_decay=config.weight_decay,
        layer_decay=config.layer_decay,
        no_decay=config.no_decay,
        head_lr=config.head_lr,
    )
    optimizer = OPTIMIZERS[config.name](groups, config)
    if not config.lookahead.enabled:
        return optimizer
    return Lookahead(optimizer, steps=config.lookahead.steps, alpha=config.lookahead.alpha)
