"""Perturbations: noise, norms, projections and the guard. A perturbation is a float32 tensor (T, H).

Norms are those of one token, over H, or of one sentence, over all tokens and H of an example, never of the batch: the
sequences of several choices are perturbed as one (Zhu et al. 2020, appendix A.1).
They come as (T, 1), one value per token, so that they divide a perturbation as they are.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mt_dnn.adversarial.base import Scope
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch

TINY = 1e-12  # below any norm that matters: keeps 0/0 at 0
GUARD = 1e-6  # of `normalize`, as in the released MT-DNN code

Order = Literal["2", "inf"]


def gaussian(network: View, state: Tensor, std: float = 1.0) -> Tensor:
    """Noise from N(0, std²) in the shape of the state."""
    return network.draws.normal(state) * std


def uniform(network: View, state: Tensor, bound: float = 1.0) -> Tensor:
    """Noise from U(−bound, bound) in the shape of the state."""
    return (network.draws.uniform(state) * 2 - 1) * bound


def per_sentence(values: Tensor, batch: Batch, order: Order = "2") -> Tensor:
    """Norm of each example, (T, H) → (B,)."""
    values = values.detach().float()
    if order == "inf":
        largest = values.abs().amax(1)
        return largest.new_zeros(batch.size).scatter_reduce(0, batch.example_ids, largest, "amax")
    return values.new_zeros(batch.size).index_add(0, batch.example_ids, values.square().sum(1)).sqrt()


def norms(values: Tensor, batch: Batch, *, scope: Scope, order: Order = "2") -> Tensor:
    """Norm of each token, or of its sentence, (T, H) → (T, 1)."""
    if scope == "sentence":
        return per_sentence(values, batch, order)[batch.example_ids][:, None]
    values = values.detach().float()
    return values.abs().amax(1, keepdim=True) if order == "inf" else values.norm(dim=1, keepdim=True)


def unit(values: Tensor, batch: Batch, *, scope: Scope, order: Order = "2") -> Tensor:
    """Scaled to norm 1; zeros stay zeros."""
    return values / norms(values, batch, scope=scope, order=order).clamp_min(TINY)


def into_ball(delta: Tensor, batch: Batch, radius: float) -> Tensor:
    """Scaled down to ‖δ‖_F ≤ radius where it is longer, per sentence (FreeLB, line 12)."""
    return delta * (radius / norms(delta, batch, scope="sentence").clamp_min(TINY)).clamp_max(1.0)


def finite(gradient: Tensor, batch: Batch) -> Tensor:
    """True for the examples whose gradient has no infinity and no NaN, (B,)."""
    bad = (~gradient.isfinite()).any(1).to(torch.int32)
    return bad.new_zeros(batch.size).index_add(0, batch.example_ids, bad) == 0


def guarded(delta: Tensor, start: Tensor, gradient: Tensor, network: View) -> Tensor:
    """δ, but where the gradient is not finite the example keeps the δ it started with; such cases are counted."""
    good = finite(gradient, network.batch)
    network.count("nonfinite", (~good).sum())
    return torch.where(good[network.batch.example_ids][:, None], delta, start.detach())


def report_size(network: View, delta: Tensor, state: Tensor) -> None:
    """‖δ‖/‖state‖, norms per sentence."""
    batch = network.batch
    network.report("delta_ratio", per_sentence(delta, batch) / per_sentence(state, batch).clamp_min(TINY))


def report_gradient_share(network: View, start: Tensor, steps: Tensor) -> None:
    """How much of δ the gradient made: ‖steps‖ / (‖δ_0‖ + ‖steps‖), before projections; steps are summed norms (B,)."""
    noise = per_sentence(start, network.batch)
    network.report("gradient_share", steps / (noise + steps).clamp_min(TINY))
