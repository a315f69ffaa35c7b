"""Metrics of predictions and labels that stand in lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_utils.metrics import Answers, Score, compute


def computed(
    metrics: Sequence[str], *, predictions: Any, labels: Any, scores: Any = None, n_class: int = 1, **further: Any
) -> dict[str, Score]:
    given = None if scores is None else np.asarray(scores)
    return compute(metrics, Answers(np.asarray(predictions), np.asarray(labels), given, n_class, **further))
