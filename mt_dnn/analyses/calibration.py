"""Calibration: whether a model is right as often as it is sure (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mt_dnn.analyses.answers import Answers, Record

BINS = 15


def calibration(runs: Sequence[Answers], bins: int = BINS) -> Record:
    """The reliability and the expected calibration error (ECE) of each run on one split."""
    return {
        "kind": "calibration",
        "task": runs[0].task,
        "split": runs[0].split,
        "bins": bins,
        "runs": [
            {
                "name": run.run.name,
                "run": str(run.run.folder),
                "rows": len(run.gold),
                "accuracy": float(run.right.mean()),
                **reliability(run.probabilities.max(1), run.right, bins),
            }
            for run in runs
        ],
    }


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Record:
    """ECE = Σ_b n_b/N · |acc_b − conf_b| over bins of equal width, (b−1)/B < confidence ≤ b/B (Guo et al. 2017, eq. 5).

    Args:
        confidence: the probability of the class that was given, (N,).
        right: whether it was the right class, (N,).

    Returns:
        ``ece`` and ``bins``: for each bin that has rows its bounds ``low`` and ``high``, ``rows``, and the means
        ``confidence`` and ``accuracy``.
    """
    numbers = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    filled = []
    for number in np.unique(numbers):
        inside = numbers == number
        filled.append(
            {
                "low": float(number / bins),
                "high": float((number + 1) / bins),
                "rows": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(right[inside].mean()),
            }
        )
    gaps = [found["rows"] * abs(found["accuracy"] - found["confidence"]) for found in filled]
    return {"ece": float(sum(gaps) / len(confidence)), "bins": filled}
