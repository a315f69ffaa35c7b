"""Statistics of tables: summaries over seeds, paired tests, and their correction for many comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
PER_COMPARISON = 60  # resamples: with 40, the smallest p times the comparisons would be 5 %, whatever the difference
POWER = 0.8
BATCH = 2_000_000  # the most numbers that a bootstrap holds in memory at once


@dataclass(frozen=True)
class Summary:
    """Scores of n seeds. ``sd``: the sample standard deviation (n − 1); None for a single seed."""

    n: int
    mean: float
    sd: float | None
    median: float
    best: float


@dataclass(frozen=True)
class Comparison:
    """A paired difference with its confidence interval.

    ``p``: the two-sided p-value of no difference; None where it is not known. ``detectable``: over seeds, the smallest
    difference that a test with p < 0.05 shows with a chance of 80 %: (t₀.₉₇₅ + t₀.₈) · sd / √n; None if not known.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    detectable: float | None = None


def resamples_for(comparisons: int) -> int:
    """How many bootstrap samples let one of so many comparisons still be below 5 % after Holm's correction."""
    return max(RESAMPLES, PER_COMPARISON * comparisons)


def summary(values: Sequence[float], *, lower_is_better: bool = False) -> Summary:
    """Summarises at least one value."""
    array = np.asarray(values, float)
    return Summary(
        n=len(array),
        mean=float(array.mean()),
        sd=float(array.std(ddof=1)) if len(array) > 1 else None,
        median=float(np.median(array)),
        best=float(array.min() if lower_is_better else array.max()),
    )


def over_seeds(values: Sequence[float], reference: Sequence[float], *, step: float = 0.0) -> Comparison:
    """The mean of paired differences ``values − reference`` with Student's t-interval.

    A single pair has neither interval nor p. Differences that are equal, up to one step of the score, say nothing about
    their spread: then there is no interval, and p is 1 if all are 0, else it is not known.

    Args:
        step: how much one example changes the score. The test takes scores as continuous.
    """
    differences = np.asarray(values, float) - np.asarray(reference, float)
    mean, n = float(differences.mean()), len(differences)
    if n < 2 or np.ptp(differences) <= step + 1e-9 * max(1.0, abs(mean)):
        same = n > 1 and float(np.abs(differences).max()) <= 1e-12
        return Comparison(mean, None, None, 1.0 if same else None, n)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    error = float(differences.std(ddof=1)) / n**0.5
    detectable = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) + stats.t.ppf(POWER, n - 1))
    return Comparison(mean, float(interval.low), float(interval.high), float(test.pvalue), n, detectable)


def over_examples(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """The paired bootstrap of a difference: the percentile interval over resamples of the same examples.

    p is twice the share of resamples on the other side of 0, where the observed sample counts as one more of them.
    A single example has neither interval nor p.

    Args:
        statistic: the difference for the examples whose numbers are given: (..., n) → (...).
        n: how many examples there are.
        seed: of the draw of resamples. The same seed draws the same examples.
    """
    observed = float(statistic(np.arange(n)))
    if n < 2:
        return Comparison(observed, None, None, None, n)
    result = stats.bootstrap(
        (np.arange(n),),
        lambda rows, axis: statistic(rows),
        n_resamples=resamples,
        batch=max(1, BATCH // n),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    drawn = result.bootstrap_distribution
    smaller_side = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (float(smaller_side) + 1) / (len(drawn) + 1))
    interval = result.confidence_interval
    return Comparison(observed, float(interval.low), float(interval.high), p, n)


def mcnemar(right: Sequence[bool], right_reference: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test: do two models err on different numbers of examples?

    Only the examples that one of both gets right count. Under the null hypothesis each is as likely to be either's.
    """
    first, second = np.asarray(right, bool), np.asarray(right_reference, bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979). Each at most α: the share of tables with a false claim is at most α."""
    count = len(p_values)
    adjusted, highest = [1.0] * count, 0.0
    for rank, number in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[number]))
        adjusted[number] = highest
    return adjusted
