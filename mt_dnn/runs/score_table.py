"""What a person reads: tables of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_utils.metrics import METRICS
from data_utils.text_table import table


def score_table(results: Sequence[dict[str, Any]]) -> str:
    """One line per task, split and metric: score beside the baseline of a constant prediction.

    Both times 100, but for metrics that are the better the lower.
    """
    rows = [
        (
            f"{result['task']} ({result['split']})",
            str(result["rows"]),
            metric,
            f"{factor * value:.2f}",
            f"{factor * result['baseline'][metric]:.2f}",
        )
        for result in results
        for metric, value in result["scores"].items()
        if isinstance(value, float)
        for factor in [1 if METRICS[metric].lower_is_better else 100]
    ]
    return table(("task (split)", "rows", "metric", "score", "baseline"), rows)
