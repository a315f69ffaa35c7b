"""Scores as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_utils.metrics import METRICS
from data_utils.text_table import table


def score_text(results: Sequence[dict[str, Any]]) -> str:
    """The table of scores, followed by the confusion matrices that tasks ask for."""
    matrices = [
        confusion_table(f"{result['task']} ({result['split']})", result["labels"], value)
        for result in results
        for metric, value in result["scores"].items()
        if metric == "confusion_matrix"
    ]
    return "\n\n".join([score_table(results), *matrices])


def confusion_table(name: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A confusion matrix as a table: one row per right label, one column per prediction."""
    rows = [(f"is {label}", *map(str, row)) for label, row in zip(labels, counts, strict=True)]
    return table((name, *(f"predicted {label}" for label in labels)), rows)


def score_table(results: Sequence[dict[str, Any]]) -> str:
    """A table of entries from ``runs.evaluate.result``: one row per task, split and metric that is a single number.

    A row has the score and the baseline, which is the score of a constant prediction. Both are multiplied by 100,
    except for metrics where lower is better, because these are no shares.
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
