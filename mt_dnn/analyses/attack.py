"""PGD on word embeddings: the largest loss in a ball around each example (Zhu et al. 2020, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_utils.prepared import Prepared
from mt_dnn.adversarial.perturbation import guarded, into_ball, uniform, unit
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Share
from mt_dnn.batches.collate import collate
from mt_dnn.batches.draws import seed_of
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.telemetry import Telemetry


@dataclass(frozen=True)
class AttackConfig:
    """How an attack searches.

    ``steps``: ascent steps from each start. ``restarts``: random starts, of which the best counts. ``step_size``: the
    length of a step, as a share of the radius. ``seed``: of the starts.
    """

    steps: int = 200
    restarts: int = 1
    step_size: float = 0.1
    seed: int = 0


class Outcome(NamedTuple):
    """What an attack found for B examples, each (B,).

    ``clean``: the loss without perturbation. ``increase``: the largest loss that was found in the ball, minus it.
    ``safe``: whether the right class was given wherever the attack looked.
    """

    clean: np.ndarray
    increase: np.ndarray
    safe: np.ndarray


def attack(
    model: TrainedModel,
    task: str,
    split: Prepared,
    rows: np.ndarray,
    radius: np.ndarray,
    config: AttackConfig,
    *,
    until_wrong: bool = False,
) -> Outcome:
    """max l(f(x + δ), y) over ‖δ‖_F ≤ ε, minus l(f(x), y), for some rows of a split.

    δ_0 = U(−1, 1) · ε/√(n·H), n tokens; then δ ← Π(δ + step · g/‖g‖_F), g = ∇_δ l. Norms are per example. The start
    of a row depends on the seed, the restart and its number, not on the other rows. δ = 0 belongs to the ball, so an
    increase is never negative. Dropout is off.

    Args:
        rows: the numbers of the rows, (B,).
        radius: ε of each of them, (B,).
        until_wrong: stop as soon as a wrong class was found for all rows; then increases are too low.
    """
    device = next(model.model.parameters()).device
    radii = torch.as_tensor(radius, dtype=torch.get_default_dtype(), device=device)
    best = clean = safe = None
    for restart in range(config.restarts):
        share = Share(seed_of(config.seed, restart), tuple(rows.tolist()), len(split))
        batch = collate(split, np.arange(len(split)), task=task, share=share).to(device)
        view = View(model.model, batch, model.trained[task], Telemetry(), reports=False)
        if best is None or clean is None or safe is None:
            with torch.no_grad():
                logits = view.resume(view.upto(0), 0)
                best = clean = view.loss(logits, reduction="none")
                safe = logits.argmax(1) == view.labels
        best, safe = _climb(view, radii, config, best, safe, until_wrong=until_wrong)
        if until_wrong and not safe.any():
            break
    assert best is not None and clean is not None and safe is not None
    return Outcome(clean.cpu().numpy(), (best - clean).cpu().numpy(), safe.cpu().numpy())


def _climb(
    view: View, radii: Tensor, config: AttackConfig, best: Tensor, safe: Tensor, *, until_wrong: bool
) -> tuple[Tensor, Tensor]:
    """Ascends from one start. Returns ``best`` and ``safe`` with what was found on the way, each (B,)."""
    batch = view.batch
    state = view.upto(0).detach()
    radius = radii[batch.example_ids][:, None]  # (T, 1)
    tokens = batch.example_lengths[batch.example_ids][:, None]
    start = into_ball(uniform(view, state) * radius / (tokens * state.shape[1]).sqrt(), batch, radius)
    delta = start
    for step in range(config.steps + 1):
        delta = delta.detach().requires_grad_()
        logits = view.resume(state + delta, 0, trains=False)
        losses = view.loss(logits, reduction="none")
        best = torch.where(losses.detach() > best, losses.detach(), best)
        safe = safe & (logits.argmax(1) == view.labels)
        if step == config.steps or (until_wrong and not safe.any()):
            break
        gradient = view.gradient(losses.sum(), delta)
        moved = delta.detach() + config.step_size * radius * unit(gradient, batch, scope="sentence")
        delta = guarded(into_ball(moved, batch, radius), start, gradient, view)
    return best, safe
