"""Statistics of tables, against scipy, against definitions, and against a direct computation."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from mt_dnn.studies.statistics import holm, mcnemar, over_examples, over_seeds, resamples_for, summary


def test_summary_of_values_counted_by_hand() -> None:
    found = summary([80.0, 84.0, 82.0, 90.0])
    assert (found.n, found.mean, found.median, found.best) == (4, 84.0, 83.0, 90.0)
    assert found.sd == pytest.approx((56 / 3) ** 0.5)  # squares of -4, 0, -2, 6
    assert summary([1.0, 3.0], lower_is_better=True).best == 1.0
    assert summary([5.0]).sd is None


@pytest.mark.parametrize("n", [2, 3, 8])
def test_seeds_are_compared_as_by_a_paired_t_test(n: int) -> None:
    rng = np.random.default_rng(n)
    values, reference = rng.normal(1, 1, n), rng.normal(0, 1, n)
    found, expected = over_seeds(values.tolist(), reference.tolist()), stats.ttest_rel(values, reference)
    interval = expected.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    half = stats.t.ppf(0.975, n - 1) * np.std(values - reference, ddof=1) / n**0.5
    assert (found.difference - found.low, found.high - found.difference) == pytest.approx((half, half))  # type: ignore[operator]


def test_differences_without_spread_are_no_proof() -> None:
    assert over_seeds([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).p == 1.0
    same = over_seeds([1.5, 2.5, 3.5], [1.0, 2.0, 3.0])
    assert (same.difference, same.p, same.low) == (0.5, None, None)
    rows = 60  # each run has two rows fewer, up to rounding; one row is 1.7 points
    near = over_seeds([50.0, 51.7, 53.3], [53.3, 55.0, 56.7], step=100 / rows)
    assert (near.difference, near.p, near.low, near.detectable) == (pytest.approx(-10 / 3), None, None, None)
    assert over_seeds([50.0, 51.7, 56.7], [53.3, 55.0, 56.7], step=100 / rows).p is not None
    single = over_seeds([2.0], [1.0])
    assert (single.difference, single.p, single.n) == (1.0, None, 1)


def test_bootstrap_of_a_mean_is_as_wide_as_its_normal_interval() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, 400)
    found = over_examples(lambda rows: values[rows].mean(-1), 400)
    half = 1.96 * values.std() / 20
    assert found.difference == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert over_examples(lambda rows: values[rows].mean(-1), 400) == found  # the same examples are drawn
    assert over_examples(lambda rows: values[rows].mean(-1), 400, seed=1) != found


def mean_of(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return values[rows].mean(-1)


def test_bootstrap_gives_a_p_that_fits_its_interval() -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.1, 0.2, 0.4):
        values = rng.normal(shift, 1, 200)
        found = over_examples(partial(mean_of, values), 200)
        assert found.p is not None and found.low is not None and found.high is not None
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        assert found.p == pytest.approx(2 * stats.norm.sf(abs(values.mean()) / values.std() * 200**0.5), abs=0.04)


def test_mcnemar_counts_the_discordant_pairs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        first, second = rng.random(60) < 0.7, rng.random(60) < 0.6
        b, c = int((first & ~second).sum()), int((~first & second).sum())
        tail = sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        assert mcnemar(first.tolist(), second.tolist()) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar([True, False], [True, False]) == 1.0


def closed_test(p_values: list[float], number: int) -> float:
    """By definition: an hypothesis falls if the Bonferroni test rejects every set of hypotheses that it is in."""
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(range(len(p_values)), size)]
    bonferroni = [len(chosen) * min(p_values[i] for i in chosen) for chosen in sets if number in chosen]
    return min(1.0, max(bonferroni))


def test_holm_is_the_closed_bonferroni_test() -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 5, 7):
        p_values = (rng.random(count) ** 3).tolist()
        assert holm(p_values) == pytest.approx([closed_test(p_values, i) for i in range(count)])
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_agrees_with_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is not installed")
    p_values = np.random.default_rng(4).random(30) ** 4
    assert holm(p_values.tolist()) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_the_smallest_gain_is_found_by_four_fifths_of_tests() -> None:
    """Simulated: with that true difference, and the spread that was measured, 80 % of t-tests are below 5 %."""
    n, rng = 8, np.random.default_rng(0)
    values = rng.normal(0, 1.5, n)
    found = over_seeds(values.tolist(), [0.0] * n).detectable
    assert found is not None
    sd = float(values.std(ddof=1))
    assert found == pytest.approx(sd / n**0.5 * (2.364624 + 0.896030))  # printed tables of t with 7 degrees of freedom
    drawn = rng.normal(found, sd, (20_000, n))
    assert float((stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05).mean()) == pytest.approx(0.8, abs=0.03)
    assert over_seeds([2.0], [1.0]).detectable is None


def test_a_single_example_has_no_interval() -> None:
    found = over_examples(lambda rows: np.full(rows.shape[:-1], 0.5), 1)
    assert (found.difference, found.low, found.high, found.p, found.n) == (0.5, None, None, None, 1)


@pytest.mark.parametrize("count", [1, 51, 400])
def test_a_clear_difference_survives_the_correction_for_many_comparisons(count: int) -> None:
    found = over_examples(lambda rows: np.ones(rows.shape[:-1]), 5, resamples=resamples_for(count))
    assert holm([found.p or 0.0] * count)[0] < 0.05
