"""Optimizers against torch and direct transcriptions of the papers; schedules against transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mt_dnn.training.optimizers import OPTIMIZERS, SLICE, AdamaxW, OptimizerConfig, in_slices
from mt_dnn.training.schedules import ScheduleConfig, build_schedule
from tests.tiny_model import skip_unless_installed

STEPS, SHAPE = 12, (3, 5)
LR, WEIGHT_DECAY, BETAS = 0.02, 0.3, (0.8, 0.9)


def gradients() -> np.ndarray:
    """(STEPS, *SHAPE); a whole step of zeros and large outliers among them."""
    found = np.random.default_rng(3).normal(size=(STEPS, *SHAPE))
    found[4] = 0
    found[7] *= 100
    return found


def start() -> np.ndarray:
    return np.random.default_rng(4).normal(size=SHAPE)


def run(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> list[np.ndarray]:
    """Parameter after each step on the fixed gradients, in float64."""
    parameter = nn.Parameter(torch.tensor(start()))
    optimizer = make([parameter])
    trajectory = []
    for gradient in gradients():
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        trajectory.append(parameter.detach().numpy().copy())
    return trajectory


def configured(name: str, **options: Any) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    betas = {} if name == "sgd" else {"betas": BETAS}
    values = {"name": name, "lr": LR, "weight_decay": WEIGHT_DECAY, **betas, **options}
    chosen = OptimizerConfig.model_validate(values)
    return lambda parameters: OPTIMIZERS[name]([{"params": parameters}], chosen)


def adamax_with_decay(eps: float = 1e-8) -> list[np.ndarray]:
    """Kingma & Ba 2015, algorithm 2, with Loshchilov & Hutter's decay before it."""
    p, m, u = start(), np.zeros(SHAPE), np.zeros(SHAPE)
    trajectory = []
    for t, g in enumerate(gradients(), start=1):
        p = p * (1 - LR * WEIGHT_DECAY)
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        u = np.maximum(BETAS[1] * u, np.abs(g) + eps)
        p = p - LR / (1 - BETAS[0] ** t) * m / u
        trajectory.append(p)
    return trajectory


@pytest.mark.parametrize("shape", [(SLICE + 1,), (5, SLICE - 7), (3, 5)])
def test_slices_change_no_bit_of_adamaxw(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2):  # with two threads nothing is sliced
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(shape))]
        groups: list[Any] = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.0}, {"params": []}]
        optimizer = AdamaxW(groups, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            weights[0].grad = torch.randn(shape[::-1]).t()  # lies otherwise in memory
            optimizer.step()
        states = [optimizer.state[weight][name] for weight in weights for name in ("exp_avg", "exp_inf", "step")]
        found.append([*weights, *states])
    assert all(a.equal(b) for a, b in zip(*found, strict=True))


def test_one_thread_updates_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    weight = torch.arange(2.0 * SLICE + 1)
    parts = in_slices(weight, 2 * weight, torch.tensor(4.0))
    assert [len(part[0]) for part in parts] == [SLICE, SLICE, 1] and [int(part[2]) for part in parts] == [4, 4, 4]
    parts[1][0].zero_()
    parts[1][2].add_(1)
    assert weight[SLICE : 2 * SLICE].count_nonzero() == 0 and parts[0][2] == 4
    assert parts[2][1].item() == 4 * SLICE


def lamb(eps: float = 1e-6, largest_norm: float = 10.0) -> list[np.ndarray]:
    """LAMB of version 3 of its paper (arXiv 1904.00962v3), without bias correction; φ caps the norm of the weights."""
    p, m, v = start(), np.zeros(SHAPE), np.zeros(SHAPE)
    trajectory = []
    for g in gradients():
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g**2
        update = m / (np.sqrt(v) + eps) + WEIGHT_DECAY * p
        p = p - LR * min(float(np.linalg.norm(p)), largest_norm) / (np.linalg.norm(update) + eps) * update
        trajectory.append(p)
    return trajectory


@pytest.mark.parametrize("foreach", [True, False, None])
def test_adamaxw_without_decay_is_adamax(foreach: bool | None) -> None:
    ours = run(lambda p: AdamaxW(p, lr=LR, betas=BETAS, foreach=foreach))
    theirs = run(lambda p: torch.optim.Adamax(p, lr=LR, betas=BETAS, foreach=foreach))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("foreach", [True, False])
def test_adamaxw_with_decay(foreach: bool) -> None:
    ours = run(lambda p: AdamaxW(p, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, foreach=foreach))
    np.testing.assert_allclose(ours, adamax_with_decay(), rtol=0, atol=1e-12)


def test_adamax_of_the_configuration() -> None:
    np.testing.assert_allclose(run(configured("adamax")), adamax_with_decay(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(run(configured("adamax", eps=0.1)), adamax_with_decay(eps=0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("adamw", {}, lambda p: torch.optim.AdamW(p, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)),
        ("adam", {"eps": 1e-4}, lambda p: torch.optim.Adam(p, LR, BETAS, 1e-4, WEIGHT_DECAY)),
        ("sgd", {"momentum": 0.9}, lambda p: torch.optim.SGD(p, LR, momentum=0.9, weight_decay=WEIGHT_DECAY)),
        (
            "radam",
            {},
            lambda p: torch.optim.RAdam(p, LR, BETAS, weight_decay=WEIGHT_DECAY, decoupled_weight_decay=True),
        ),
    ],
)
def test_torch_optimizers(name: str, options: dict[str, Any], reference: Any) -> None:
    np.testing.assert_allclose(run(configured(name, **options)), run(reference), rtol=0, atol=1e-12)


def test_lamb() -> None:
    skip_unless_installed("lamb")
    np.testing.assert_allclose(run(configured("lamb")), lamb(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("linear", "linear", {}),
        ("cosine", "cosine", {}),
        ("constant", "constant_with_warmup", {}),
        ("polynomial", "polynomial", {"lr_end": 0.0, "power": 3.0}),
    ],
)
def test_schedules(name: str, theirs: str, options: dict[str, float]) -> None:
    from transformers import get_scheduler

    total, fraction = 20, 0.15
    power = options.get("power", 1.0)
    ours_of = ScheduleConfig.model_validate({"name": name, "warmup_fraction": fraction, "power": power})

    def rates(build: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
        schedule = build(optimizer)
        found = []
        for _ in range(total):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    expected = rates(lambda o: get_scheduler(theirs, o, round(fraction * total), total, options or None))
    np.testing.assert_allclose(rates(lambda o: build_schedule(o, ours_of, total)), expected, rtol=0, atol=1e-12)
