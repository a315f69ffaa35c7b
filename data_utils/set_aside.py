"""Parts of splits: training rows set aside, to choose settings (``carved``) or to score (``held_out``), and samples."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

import numpy as np
import pyarrow as pa

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.rows import SEED, Rows

CARVED, HELD_OUT = "carved", "held_out"  # names of splits
MOST_PARTS = 20  # equal parts that rows are divided into, if one part is not smaller than this
STRATA = 10  # numbers are stratified by as many ranges with equally many rows


def set_aside(train: Prepared, rows: Rows, *, max_rows: int | None, carve: float | None) -> dict[str, Prepared]:
    """Divides the rows of a training split. Rows with the same first text, such as a premise, stay together.

    Args:
        train: all rows.
        rows: the same rows as text.
        max_rows: train on the first rows only. The rows behind them become the split ``held_out``, without those whose
            first text is among the first rows.
        carve: the share of the first rows that becomes the split ``carved``. It is drawn stratified by label.

    Returns:
        The splits by name: ``train``, and those of ``carved`` and ``held_out`` that have rows.

    Raises:
        UserError: too few rows to carve from.
    """
    used = np.arange(len(rows) if max_rows is None else min(max_rows, len(rows)))
    seen = {rows.first[row] for row in used}
    behind = [row for row in range(len(used), len(rows)) if rows.first[row] not in seen]
    chosen = {"train": used, HELD_OUT: np.array(behind, dtype=np.int64)}
    if carve is not None:
        aside = _drawn([rows.first[row] for row in used], _strata(rows, len(used)), carve, str(rows.path))
        chosen |= {"train": used[~aside], CARVED: used[aside]}
    return {
        name: _taken(train, numbers, f"{name}-{max_rows}-{carve}") for name, numbers in chosen.items() if len(numbers)
    }


def sampled(split: Prepared, count: int) -> Prepared:
    """At most ``count`` rows of a split, drawn with a fixed seed, in the order of the file.

    Of two files with equally many rows the same rows are drawn, such as the translations of the same sentences. Rows of
    one question are all drawn, or none of them; at least one question is.
    """
    rows = split.row_count
    if rows <= count:
        return split
    if split.questions is not None:
        numbers, sizes = np.unique(split.questions, return_counts=True)
        order = np.random.default_rng(SEED).permutation(len(numbers))
        kept = max(1, int(np.searchsorted(np.cumsum(sizes[order]), count, side="right")))
        taken = np.flatnonzero(np.isin(split.questions, numbers[order[:kept]]))
        return _taken(split, taken, f"sample-{count}-questions")
    drawn = np.random.default_rng(SEED).choice(rows, count, replace=False)
    return _taken(split, np.sort(drawn), f"sample-{count}")


def _strata(rows: Rows, count: int) -> np.ndarray:
    """For each of the first rows the number of its stratum: its class, or the range that its number is in."""
    labels = rows.label[:count] if rows.label is not None else [0] * count
    if isinstance(labels[0], float):
        edges = np.quantile(labels, np.linspace(0, 1, STRATA + 1)[1:-1])
        return np.searchsorted(edges, labels)
    return np.array([label if isinstance(label, int) else 0 for label in labels])


def _drawn(groups: Sequence[str], strata: np.ndarray, share: float, location: str) -> np.ndarray:
    """Draws about ``share`` of the rows. Returns (N,) bool. Rows of one group are all drawn, or none of them is."""
    from sklearn.model_selection import StratifiedGroupKFold

    part = Fraction(share).limit_denominator(MOST_PARTS) if share * MOST_PARTS >= 1 else Fraction(1, round(1 / share))
    parts = part.denominator
    numbers = np.unique(groups, return_inverse=True)[1]
    if numbers.max() + 1 < parts:
        raise UserError(f"{location}: {numbers.max() + 1} different first texts are too few for data.carve={share:g}")
    if np.bincount(strata).max() < parts:
        strata = np.zeros_like(strata)
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=SEED)
    aside = np.zeros(len(groups), dtype=bool)
    with warnings.catch_warnings():  # scikit-learn warns of a class with fewer rows than folds, which some folds lack
        warnings.simplefilter("ignore", UserWarning)
        for _, fold in islice(folds.split(strata, strata, numbers), part.numerator):
            aside[fold] = True
    return aside


def _taken(split: Prepared, rows: np.ndarray, name: str) -> Prepared:
    """The split with these rows alone, in this order. ``name`` distinguishes it from other parts of the split."""
    windows = rows if split.sources is None else np.flatnonzero(np.isin(split.sources, rows))
    hash_here = f"{split.manifest['hash']}-{name}"
    manifest = {**split.manifest, "rows": len(rows), "hash": hash_here, "row_numbers": rows.tolist()}
    return Prepared.of_columns(split.path, split.batch.take(pa.array(windows)), manifest)
