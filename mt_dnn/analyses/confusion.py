"""Confusion matrices of runs, and their difference (Pereira et al. 2021, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_utils.errors import UserError
from mt_dnn.analyses.answers import Answers, Record


def confusion(runs: Sequence[Answers]) -> Record:
    """Confusion matrices of runs on one split.

    ``counts``, (C, C): how many rows with the right class of each row were given the class of each column. ``rates``:
    the same, divided by the number of rows with this right class; null where there are none. With two runs
    ``difference`` has the rates of the second minus those of the first.

    Raises:
        UserError: the runs have different labels.
    """
    labels = runs[0].labels
    for run in runs[1:]:
        if run.labels != labels:
            raise UserError(f"{run.run.folder}: its labels are {', '.join(run.labels)}, not {', '.join(labels)}")
    counts = [counted(run) for run in runs]
    shares = [rates(count) for count in counts]
    return {
        "kind": "confusion",
        "task": runs[0].task,
        "split": runs[0].split,
        "labels": list(labels),
        "runs": [
            {
                "name": run.run.name,
                "run": str(run.run.folder),
                "rows": len(run.gold),
                "accuracy": float(run.right.mean()),
                "counts": count.tolist(),
                "rates": with_nulls(share),
            }
            for run, count, share in zip(runs, counts, shares, strict=True)
        ],
        "difference": with_nulls(shares[1] - shares[0]) if len(runs) == 2 else None,
    }


def counted(answers: Answers) -> np.ndarray:
    """How often each class was given where each class is right, (C, C). Rows are right classes."""
    size = len(answers.labels)
    return np.bincount(answers.gold * size + answers.predicted, minlength=size * size).reshape(size, size)


def rates(counts: np.ndarray) -> np.ndarray:
    """Each row divided by its sum, (C, C). NaN in a row without counts."""
    sums = counts.sum(1, keepdims=True)
    return np.divide(counts, sums, out=np.full(counts.shape, np.nan), where=sums > 0)


def with_nulls(values: np.ndarray) -> list[list[float | None]]:
    """The values for JSON, which has no NaN: null stands for it."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]
