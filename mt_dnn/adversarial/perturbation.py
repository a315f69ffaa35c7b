"""Noise, norms and projections of perturbations, and the guard against gradients that are not finite.

A perturbation is a float32 tensor (T, H). A norm is taken over one token (H entries) or over one sentence: all tokens
of an example, and all of its sequences where it has several choices (Zhu et al. 2020, appendix A.1). It is never taken
over the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch

TINY = 1e-12  # smallest divisor: below any norm that matters, and 0/TINY is 0
NORMALIZE_EPS = 1e-6  # added to the divisor by `projection: normalize`, as in the released MT-DNN code

Order = Literal["2", "inf"]
Scope = Literal["token", "sentence"]


def gaussian(network: View, state: Tensor, std: float = 1.0) -> Tensor:
    """Noise from N(0, std²) in the shape of the state."""
    return network.draws.normal(state) * std


def uniform(network: View, state: Tensor, bound: float = 1.0) -> Tensor:
    """Noise from U(−bound, bound) in the shape of the state."""
    return (network.draws.uniform(state) * 2 - 1) * bound


def per_sentence(values: Tensor, batch: Batch, order: Order = "2") -> Tensor:
    """The norm of each example, (T, H) → (B,)."""
    values = values.detach().float()
    if order == "inf":
        largest = values.abs().amax(1)
        return largest.new_zeros(batch.size).scatter_reduce(0, batch.example_ids, largest, "amax")
    return values.new_zeros(batch.size).index_add(0, batch.example_ids, values.square().sum(1)).sqrt()


def norms(values: Tensor, batch: Batch, *, scope: Scope, order: Order = "2") -> Tensor:
    """The norm for each token, (T, H) → (T, 1): its own, or with ``scope="sentence"`` that of its example."""
    if scope == "sentence":
        return per_sentence(values, batch, order)[batch.example_ids][:, None]
    values = values.detach().float()
    return values.abs().amax(1, keepdim=True) if order == "inf" else values.norm(dim=1, keepdim=True)


def unit(values: Tensor, batch: Batch, *, scope: Scope, order: Order = "2") -> Tensor:
    """The values scaled to norm 1, (T, H). Zeros stay zeros."""
    return values / norms(values, batch, scope=scope, order=order).clamp_min(TINY)


def into_ball(delta: Tensor, batch: Batch, radius: float | Tensor | None) -> Tensor:
    """δ scaled down to ‖δ‖_F = radius in the sentences where it is longer, (T, H) (Zhu et al. 2020, box 1, line 12).

    The radius is a number, or one for each token, (T, 1), which is the same in all tokens of a sentence. Without a
    radius δ stays as it is.
    """
    if radius is None:
        return delta
    return delta * (radius / norms(delta, batch, scope="sentence").clamp_min(TINY)).clamp_max(1.0)


def finite(gradient: Tensor, batch: Batch) -> Tensor:
    """True for each example whose gradient has neither an infinity nor a NaN, (B,)."""
    bad = (~gradient.isfinite()).any(1).to(torch.int32)
    return bad.new_zeros(batch.size).index_add(0, batch.example_ids, bad) == 0


def guarded(delta: Tensor, start: Tensor, gradient: Tensor, network: View) -> Tensor:
    """δ, (T, H), in which examples with a gradient that is not finite are set back to ``start``.

    The log counts these examples.
    """
    good = finite(gradient, network.batch)
    network.count("nonfinite", (~good).sum())
    return torch.where(good[network.batch.example_ids][:, None], delta, start.detach())


def report_size(network: View, delta: Tensor, state: Tensor) -> None:
    """Reports ‖δ‖/‖state‖ of each sentence."""
    if network.reports:
        batch = network.batch
        network.report("delta_ratio", per_sentence(delta, batch) / per_sentence(state, batch).clamp_min(TINY))


def report_gradient_share(network: View, start: Tensor, steps: Tensor) -> None:
    """Reports how much of δ the gradient made, before projections: s / (‖δ_0‖ + s).

    ``start``: δ_0, (T, H). ``steps``: s, (B,), the sum of the norms of the steps of each example.
    """
    if network.reports:
        noise = per_sentence(start, network.batch)
        network.report("gradient_share", steps / (noise + steps).clamp_min(TINY))
