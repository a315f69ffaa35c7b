"""Labels with an order: probabilities, gradients, predictions and metrics."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor

from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.tasks.ordinal import OrderedClasses, OrdinalHead
from tests.answers import computed

TASK = TaskDef(
    name="o", task_type="ordinal", data_format="single", labels=("a", "b", "c", "d"), **TASK_TYPES["ordinal"].defaults
)


def logits_of(head: OrdinalHead, scores: Tensor) -> Tensor:
    """The head's output where its linear layer gives these scores."""
    head.linear.weight.data.fill_(1)
    head.linear.bias.data.zero_()
    return head(scores[:, None], cast(Any, None))


@pytest.mark.parametrize("classes", [3, 4, 9])
def test_probabilities_are_differences_of_the_cumulative_ones(classes: int) -> None:
    head = OrdinalHead(1, classes, 0.0, 0.02)
    start = logits_of(head, torch.zeros(1)).exp()
    torch.testing.assert_close(start, torch.full((1, classes), 1 / classes))
    torch.manual_seed(0)
    head.lowest.data.add_(torch.randn(1))
    head.gaps.data.add_(torch.randn(classes - 2))
    scores = torch.linspace(-6, 6, 13)
    gaps = np.log1p(np.exp(head.gaps.detach().double().numpy()))
    thresholds = head.lowest.item() + np.concatenate([[0], np.cumsum(gaps)])
    below = expit(thresholds - scores.double().numpy()[:, None])
    expected = np.diff(np.concatenate([np.zeros((13, 1)), below, np.ones((13, 1))], axis=1), axis=1)
    found = logits_of(head, scores).exp().detach().numpy()
    assert found == pytest.approx(expected, abs=1e-6) and found.sum(1) == pytest.approx(1, abs=1e-5)


def test_far_scores_lose_nothing() -> None:
    """At a score of ±80 probabilities are far below float32; logarithms and gradients stay right."""
    head = OrdinalHead(1, 4, 0.0, 0.02)
    scores = torch.tensor([-80.0, 80.0], requires_grad=True)
    logits = logits_of(head, scores)
    assert logits.isfinite().all() and logits[0].argmax() == 0 and logits[1].argmax() == 3
    assert logits[0, 3].item() == pytest.approx(-80 - np.log(3), abs=1e-3)
    torch.nn.functional.cross_entropy(logits, torch.tensor([3, 0])).backward()
    assert scores.grad is not None and scores.grad.tolist() == pytest.approx([-0.5, 0.5], abs=1e-4)
    assert head.gaps.grad is not None and head.gaps.grad.isfinite().all()


def test_the_prediction_is_the_median() -> None:
    probabilities = np.array([[0.4, 0.05, 0.15, 0.4], [0.6, 0.1, 0.1, 0.2], [0.1, 0.1, 0.1, 0.7]])
    outputs = [row[None] for row in np.log(probabilities).astype(np.float32)]
    decoded = OrderedClasses()(TASK, TASK, cast(Any, None), outputs)
    assert decoded.predictions.tolist() == [2, 0, 3]
    distances = np.abs(np.arange(4)[:, None] - np.arange(4)) @ probabilities.T
    assert (distances[decoded.predictions, range(3)] == distances.min(0)).all()


def test_metrics_by_hand() -> None:
    predictions, labels = np.array([0, 1, 2, 3, 3]), np.array([0, 2, 2, 3, 0])
    found = computed(["mae", "quadratic_kappa"], predictions=predictions, labels=labels, n_class=4)
    assert found["mae"] == pytest.approx((0 + 1 + 0 + 0 + 3) / 5)
    observed = np.square(predictions - labels).mean()
    chance = np.square(predictions[:, None] - labels[None]).mean()
    assert found["quadratic_kappa"] == pytest.approx(1 - observed / chance)
