"""Losses and divergences against scipy and numpy; what each of them trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose as assert_close
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from data_utils import task_def
from mt_dnn.tasks.losses import DIVERGENCES, LOSSES


def logits(seed: int, classes: int = 4, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(6, classes, generator=torch.Generator().manual_seed(seed))


def relative_entropy(p: Any, q: Any) -> Any:
    return entropy(p, q, axis=1)


EXPECTED: dict[str, Callable[[Any, Any], Any]] = {
    "kl": relative_entropy,
    "sym_kl": lambda p, q: relative_entropy(p, q) + relative_entropy(q, p),
    "js": lambda p, q: (relative_entropy(p, (p + q) / 2) + relative_entropy(q, (p + q) / 2)) / 2,
    "hellinger": lambda p, q: ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(1) / 2,
}


def test_names_are_those_of_the_task_definitions() -> None:
    assert set(LOSSES) == set(task_def.LOSSES)
    assert set(DIVERGENCES) == set(task_def.DIVERGENCES)


@pytest.mark.parametrize("stop_gradient", ["target", "none", "kl_target"])
@pytest.mark.parametrize("name", EXPECTED)
def test_divergences_equal_scipy(name: str, stop_gradient: str) -> None:
    clean, perturbed = logits(1), logits(2)
    p, q = softmax(clean.double().numpy(), 1), softmax(perturbed.double().numpy(), 1)
    expected = EXPECTED[name](p, q)
    each = DIVERGENCES[name](clean, perturbed, stop_gradient=stop_gradient, reduction="none")
    mean = DIVERGENCES[name](clean, perturbed, stop_gradient=stop_gradient)
    assert_close(each.numpy(), expected, rtol=1e-5, atol=1e-7)
    assert_close(mean.item(), expected.mean(), rtol=1e-5)


def test_mse_between_values() -> None:
    clean, perturbed = logits(1, 1), logits(2, 1)
    expected = ((clean - perturbed).numpy() ** 2)[:, 0]
    assert_close(DIVERGENCES["mse"](clean, perturbed, reduction="none").numpy(), expected, rtol=1e-6)
    assert_close(DIVERGENCES["mse"](clean, perturbed).item(), expected.mean(), rtol=1e-6)


def test_jensen_shannon_has_its_half() -> None:
    apart = DIVERGENCES["js"](torch.tensor([[80.0, 0.0]]), torch.tensor([[0.0, 80.0]]))
    assert apart.item() == pytest.approx(np.log(2))  # its largest value; 2 log 2 without the half


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equal_logits_diverge_by_nothing(name: str) -> None:
    same = logits(1, 1) if name == "mse" else logits(1)
    assert DIVERGENCES[name](same, same).abs() < 1e-6


@pytest.mark.parametrize("stop_gradient", ["target", "none", "kl_target"])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_what_each_divergence_trains(name: str, stop_gradient: str) -> None:
    clean, perturbed = logits(1).requires_grad_(), logits(2).requires_grad_()
    value = DIVERGENCES[name](clean, perturbed, stop_gradient=stop_gradient)
    to_clean, to_perturbed = torch.autograd.grad(value, [clean, perturbed], materialize_grads=True)
    assert to_perturbed.abs().max() > 1e-3
    of_both = stop_gradient == "none" or name == "sym_kl" or (name == "mse" and stop_gradient == "kl_target")
    assert bool(to_clean.any()) == of_both


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_are_right(name: str) -> None:
    clean, perturbed = logits(1).requires_grad_(), logits(2).requires_grad_()
    value = DIVERGENCES[name](clean, perturbed, stop_gradient="none")
    for tensor, gradient in zip((clean, perturbed), torch.autograd.grad(value, [clean, perturbed]), strict=True):
        step = torch.zeros_like(tensor)
        step[2, 1] = 1e-2
        moved = [
            DIVERGENCES[name](*[(t + sign * step) if t is tensor else t for t in (clean, perturbed)])
            for sign in (1, -1)
        ]
        assert gradient[2, 1].item() == pytest.approx((moved[0] - moved[1]).item() / 2e-2, rel=1e-2, abs=1e-4)


def test_each_term_of_sym_kl_trains_its_second_argument() -> None:
    clean, perturbed = logits(1).requires_grad_(), logits(2).requires_grad_()
    own = torch.autograd.grad(DIVERGENCES["sym_kl"](clean, perturbed), [clean, perturbed])
    there = torch.autograd.grad(DIVERGENCES["kl"](clean, perturbed), perturbed)[0]
    back = torch.autograd.grad(DIVERGENCES["kl"](perturbed, clean), clean)[0]
    torch.testing.assert_close(own, (back, there))


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_half_precision_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    clean = torch.tensor([[300.0, -300.0, 0.0]], dtype=dtype)
    perturbed = torch.tensor([[-300.0, 300.0, 0.0]], dtype=dtype, requires_grad=True)
    value = DIVERGENCES[name](clean, perturbed)
    (gradient,) = torch.autograd.grad(value, perturbed)
    assert value.dtype == torch.float32 and value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_unlike_shapes_and_unknown_options_are_errors(name: str) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        DIVERGENCES[name](torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match="stop_gradient"):
        DIVERGENCES[name](logits(1), logits(2), stop_gradient="clean")


def test_cross_entropy_equals_numpy() -> None:
    z, labels = logits(1), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = -np.log(softmax(z.double().numpy(), 1))[range(6), labels.numpy()]
    assert_close(LOSSES["cross_entropy"](z, labels, reduction="none").numpy(), expected, rtol=1e-5)
    assert_close(LOSSES["cross_entropy"](z, labels).item(), expected.mean(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_regression_loss_never_broadcasts(shape: tuple[int, ...]) -> None:
    labels = logits(1, 1)[:, 0]
    assert LOSSES["mse"](labels.reshape(shape), labels).item() == 0.0
    shifted = labels.reshape(shape) + torch.arange(6.0).reshape(shape)
    each = LOSSES["mse"](shifted, labels, reduction="none")
    assert_close(each.numpy(), np.arange(6.0) ** 2, rtol=1e-5, atol=1e-6)
    assert LOSSES["mse"](shifted, labels).item() == pytest.approx(55 / 6)
