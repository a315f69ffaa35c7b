"""Which cell of a group counts, by hand-made records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.studies.choice import chosen, deciding_score, is_decided, wanted_runs
from mt_dnn.studies.grid import Grid
from tests.study_files import grid_of

AXES = {"method": {"plain": {}, "more": {"train.epochs": 2}}, "optimizer.lr": [0.1, 0.2, 0.3]}


def record(score: float, split: str = "carved", **more: float) -> dict[str, Any]:
    results = [{"task": "negated", "split": split, "scores": {"mcc": score}}]
    return {"tasks": ["negated"], "results": results, **more}


@pytest.fixture
def grid(workspace: Path) -> Grid:
    return grid_of(workspace, axes=AXES, select={"over": ["optimizer.lr"], "seeds": [1, 2]}, seeds=[1, 5])


def decided(grid: Grid, scores: dict[str, list[float | None]]) -> dict[str, Any]:
    """Records of runs that decide. ``scores``: learning rate → score of each seed; None: failed."""
    records = {}
    for cell in grid.groups[0]:
        for seed, score in zip((1, 2), scores.get(cell.labels["optimizer.lr"], []), strict=False):
            made = {"error": "diverged"} if score is None else record(score)
            records[grid.deciding_run(cell, seed).settings_id] = {"tasks": ["negated"], **made}
    return records


def label(grid: Grid, records: dict[str, Any]) -> str | None:
    cell = chosen(grid, grid.groups[0], records)
    return None if cell is None else cell.labels["optimizer.lr"]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({"0.1": [0.5, 0.6], "0.2": [0.9, 0.3], "0.3": [0.1, 0.2]}, "0.2"),  # means 0.55, 0.6, 0.15
        ({"0.1": [0.5, 0.6], "0.2": [0.6, 0.5], "0.3": [0.1, 0.2]}, "0.1"),  # the first of the same
        ({"0.1": [0.5, 0.6], "0.2": [0.9, None], "0.3": [0.1, 0.2]}, "0.1"),  # a failed run does not count
        ({"0.1": [None, None], "0.2": [None, 0.9], "0.3": [0.1, None]}, "0.1"),  # so that its failure is shown
        ({"0.1": [0.5, 0.6], "0.2": [0.9], "0.3": [0.1, 0.2]}, None),  # a run is missing
        ({}, None),
    ],
)
def test_the_best_mean_of_the_deciding_seeds_counts(grid: Grid, scores: Any, best: str | None) -> None:
    assert label(grid, decided(grid, scores)) == best


def test_final_runs_are_planned_when_their_group_is_decided(grid: Grid) -> None:
    assert [str(run) for run in wanted_runs(grid, {})] == [str(run) for run in grid.deciding()]
    records = decided(grid, {"0.1": [0.1, 0.1], "0.2": [0.2, 0.2], "0.3": [0.3, 0.3]})
    more = wanted_runs(grid, records)[len(grid.deciding()) :]
    # The run of seed 1 is the one that decided.
    assert [str(run) for run in more] == ["method=plain, optimizer.lr=0.3, seed 5"]
    assert not is_decided(grid, records)


def test_a_run_decides_by_the_split_and_metrics_that_are_asked_for() -> None:
    results = [
        {"task": "a", "split": "carved", "scores": {"accuracy": 0.5, "f1": 0.7}},
        {"task": "a", "split": "dev_matched", "scores": {"accuracy": 0.1}},
        {"task": "a", "split": "test", "scores": {"accuracy": 1.0}},
        {"task": "b", "split": "carved", "scores": {"mae": 0.3}},  # lower is better
        {"task": "c", "split": "carved", "scores": {"accuracy": 1.0}},  # evaluated, not trained
    ]
    found = {"tasks": ["a", "b"], "results": results}
    assert deciding_score(found, "carved", None) == pytest.approx((0.6 - 0.3) / 2)
    assert deciding_score(found, "carved", "a") == pytest.approx(0.6)
    assert deciding_score(found, "carved", "a.f1") == 0.7
    assert deciding_score(found, "dev", None) == 0.1
    assert deciding_score({"error": "x", "tasks": ["a"]}, "dev", None) is None


def test_a_finished_run_without_the_score_that_decides_is_an_error(workspace: Path) -> None:
    grid = grid_of(workspace, axes=AXES, select={"over": ["optimizer.lr"], "seeds": [1, 2]})
    records = decided(grid, {"0.1": [0.5, 0.6], "0.2": [0.9, 0.3], "0.3": [0.1, 0.2]})
    for found in records.values():
        found["results"][0]["split"] = "dev"
    with pytest.raises(UserError, match=r"optimizer.lr=0.1: has no score on split carved, which select reads"):
        chosen(grid, grid.groups[0], records)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("negatd", "select.metric: 'negatd' is not trained, did you mean 'negated'"),
        ("negated.acuracy", "select.metric: negated has no metric 'acuracy'"),
    ],
)
def test_a_metric_that_no_run_has_is_named_before_runs_are_made(workspace: Path, metric: str, message: str) -> None:
    grid = grid_of(workspace, axes=AXES, select={"over": ["optimizer.lr"], "metric": metric})
    with pytest.raises(UserError, match=message):
        grid.deciding()
