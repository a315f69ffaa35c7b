"""What a person reads: tables of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_utils.metrics import METRICS


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell; the first column is text, the others are right-aligned."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


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
