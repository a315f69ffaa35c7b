"""Task losses and divergences as pure functions of logits for N decisions with C options each.

``reduction="none"`` gives one value per decision, (N,); ``"mean"`` their mean. All are computed in float32 at least,
whatever the precision of the logits.

``stop_gradient`` says which arguments of a divergence are trained:
- ``none``: both.
- ``target``: each term trains its second argument only.
- ``kl_target``: the same, but a squared difference trains both. So does the released MT-DNN code (mt_dnn/loss.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from data_utils.task_def import TaskDef

MISSING = -1e4  # the logit of an option that a decision does not have: probability 0, and finite in float16


Reduction = Literal["mean", "none"]
StopGradient = Literal["target", "none", "kl_target"]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: tuple[float, ...] | None = None,
    smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """−log p_y. Logits (N, C), labels (N,).

    ``weights``: w_c for each class; a decision gives −w_y log p_y. The mean is over the N decisions and is not divided
    by their weights, so that it does not depend on how a batch is shared out over ranks.
    ``smoothing``: ε; a decision gives −(1 − ε) w_y log p_y − ε/C Σ_c w_c log p_c (Szegedy et al. 2016, section 7).
    """
    if weights is None and not smoothing:
        return F.cross_entropy(precise(logits), labels, reduction=reduction)
    weight = None if weights is None else class_weights(weights, logits.device).to(precise(logits).dtype)
    values = F.cross_entropy(precise(logits), labels, weight, label_smoothing=smoothing, reduction="none")
    return _reduced(values, reduction)


@cache
def class_weights(weights: tuple[float, ...], device: torch.device) -> Tensor:
    """The weights as a tensor on the device, (C,). It is kept, so that the device does not wait for it again."""
    return torch.tensor(weights, dtype=torch.float32, device=device)


def task_loss(task: TaskDef, logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The loss of a task as its definition says. Logits (N, C), labels (N,)."""
    options = {"weights": task.weights, "smoothing": task.label_smoothing} if task.loss == "cross_entropy" else {}
    return LOSSES[task.loss](logits, labels, **options, reduction=reduction)


def pairwise(logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of log(1 + exp(z_c − z_y)) over the wrong choices c (Burges et al. 2005). Logits (N, C), labels (N,).

    If a row has fewer choices than others, the missing ones have the logit MISSING and do not count.
    """
    logits = precise(logits)
    wrong = (logits > MISSING / 2).scatter(1, labels[:, None], False)
    terms = F.softplus(logits - logits.gather(1, labels[:, None])) * wrong
    return _reduced(terms.sum(1) / wrong.sum(1), reduction)


def squared_error(logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """(z − y)². Logits (N, 1) or (N,), labels (N,). Logits are reshaped first, or they would broadcast to (N, N)."""
    values = precise(logits).reshape(labels.shape)
    return F.mse_loss(values, labels.to(values.dtype), reduction=reduction)


def kl(
    clean: Tensor, perturbed: Tensor, *, stop_gradient: StopGradient = "target", reduction: Reduction = "mean"
) -> Tensor:
    """KL(p ‖ p~) = Σ_c p_c (log p_c − log p~_c). ``clean``, ``perturbed``: logits (N, C)."""
    return _reduced(_kl(clean, perturbed, stop_gradient), reduction)


def sym_kl(
    clean: Tensor, perturbed: Tensor, *, stop_gradient: StopGradient = "target", reduction: Reduction = "mean"
) -> Tensor:
    """KL(p ‖ p~) + KL(p~ ‖ p), without a half (Jiang et al. 2020, eq. 2). Both arguments are logits (N, C)."""
    values = _kl(clean, perturbed, stop_gradient) + _kl(perturbed, clean, stop_gradient)
    return _reduced(values, reduction)


def js(
    clean: Tensor, perturbed: Tensor, *, stop_gradient: StopGradient = "target", reduction: Reduction = "mean"
) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(p~ ‖ m), m = (p + p~)/2. ``clean``, ``perturbed``: logits (N, C).

    ``target`` and ``kl_target`` detach p. (m is not detached: it is already the best m for p and p~, so its gradient
    alone is 0.)
    """
    _check_shapes(clean, perturbed)
    log_p, log_q = _log_p(_target(clean, stop_gradient)), _log_p(perturbed)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return _reduced(0.5 * terms.sum(-1), reduction)


def hellinger(
    clean: Tensor, perturbed: Tensor, *, stop_gradient: StopGradient = "target", reduction: Reduction = "mean"
) -> Tensor:
    """½ Σ_c (√p_c − √p~_c)². ``clean``, ``perturbed``: logits (N, C).

    √p is computed as exp(½ log p), so its gradient is finite at 0. ``target`` and ``kl_target`` detach p.
    """
    _check_shapes(clean, perturbed)
    p, q = (0.5 * _log_p(_target(clean, stop_gradient))).exp(), (0.5 * _log_p(perturbed)).exp()
    return _reduced(0.5 * (p - q).square().sum(-1), reduction)


def mse(
    clean: Tensor, perturbed: Tensor, *, stop_gradient: StopGradient = "target", reduction: Reduction = "mean"
) -> Tensor:
    """(z − z~)², mean over the outputs that are not MISSING. ``clean``, ``perturbed``: logits (N, C).

    ``target`` detaches z, ``kl_target`` detaches nothing.
    """
    _check_shapes(clean, perturbed)
    fixed = _target(clean, "none" if stop_gradient == "kl_target" else stop_gradient)
    difference = precise(perturbed) - precise(fixed)
    outputs = (clean > MISSING / 2).sum(-1).clamp(min=1)  # a single value may be as low
    return _reduced(difference.square().sum(-1) / outputs, reduction)


def _kl(target: Tensor, other: Tensor, stop_gradient: StopGradient) -> Tensor:
    """KL(target ‖ other) of each decision, (N,)."""
    _check_shapes(target, other)
    log_p, log_q = _log_p(_target(target, stop_gradient)), _log_p(other)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _check_shapes(clean: Tensor, perturbed: Tensor) -> None:
    """Raises ValueError for different shapes. They would broadcast: (N,) and (N, 1) to (N, N)."""
    if clean.shape != perturbed.shape:
        raise ValueError(f"shapes differ: {tuple(clean.shape)} and {tuple(perturbed.shape)}")


def _target(logits: Tensor, stop_gradient: StopGradient) -> Tensor:
    if stop_gradient not in get_args(StopGradient):
        raise ValueError(f"stop_gradient is one of {', '.join(get_args(StopGradient))}, not {stop_gradient!r}")
    return logits if stop_gradient == "none" else logits.detach()


def _log_p(logits: Tensor) -> Tensor:
    return F.log_softmax(precise(logits), dim=-1)


def precise(values: Tensor) -> Tensor:
    """The values in float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    return values.mean() if reduction == "mean" else values


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "pairwise": pairwise,
    "mse": squared_error,
}


DIVERGENCES: Mapping[str, Callable[..., Tensor]] = {
    "kl": kl,
    "sym_kl": sym_kl,
    "js": js,
    "hellinger": hellinger,
    "mse": mse,
}
