"""Which settings of a study are the best, by the records of finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from data_utils.errors import UserError
from data_utils.metrics import METRICS
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.decision import Decision
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.show import Score

Records = Mapping[str, Mapping[str, Any]]  # by the settings_id of their run


def chosen(grid: Grid, group: list[Cell], records: Records) -> Cell | None:
    """The best cell of a group by the mean score of its deciding runs. None while one of them is missing.

    A cell with a run that failed is not chosen. If all cells have one, the first cell is returned, so that the table
    can name its failure. Of cells with the same score the first one is chosen.

    Raises:
        UserError: a run has finished without the score that decides.
    """
    if len(group) == 1:
        return group[0]
    select = grid.study.select
    assert select is not None
    scores: list[tuple[float, Cell]] = []
    for cell in group:
        found = [records.get(grid.deciding_run(cell, seed).settings_id) for seed in select.seeds]
        if any(record is None for record in found):
            return None
        finished = [record for record in found if record is not None and "error" not in record]
        if len(finished) == len(found):
            scores.append((statistics.mean(_score(record, select, cell) for record in finished), cell))
    return max(scores, key=lambda pair: pair[0])[1] if scores else group[0]


def _score(record: Mapping[str, Any], decision: Decision, cell: Cell) -> float:
    score = deciding_score(record, decision.split, decision.metric)
    if score is None:
        metric = f"score '{decision.metric}'" if decision.metric else "score"
        raise UserError(
            f"{record.get('run', cell)}: has no {metric} on split {decision.split}, which select reads; change "
            "select.split or select.metric"
        )
    return score


def is_decided(grid: Grid, records: Records) -> bool:
    """Whether the records choose a cell of every group, so that all runs of the study can be planned."""
    return all(chosen(grid, group, records) is not None for group in grid.groups)


def deciding_score(record: Mapping[str, Any], split: str, metric: str | None) -> float | None:
    """The score by which a run competes: the mean over its trained tasks. Higher is better. None for a failed run.

    Args:
        split: ``carved``, or ``dev`` for all splits with dev or validation in their name.
        metric: ``<task>`` or ``<task>.<metric>``; None: all.
    """
    wanted = None if metric is None else Score.parse(metric)
    by_task: dict[str, list[float]] = {}
    for result in record.get("results", ()):
        decides = result["split"] == split or (
            split == "dev" and any(n in result["split"] for n in ("dev", "validation"))
        )
        if not decides or result["task"] not in record["tasks"] or (wanted and result["task"] != wanted.task):
            continue
        for name, value in result["scores"].items():
            if (wanted is None or wanted.metric in (None, name)) and METRICS[name].scalar:
                sign = -1 if METRICS[name].lower_is_better else 1
                by_task.setdefault(result["task"], []).append(sign * value)
    return statistics.mean(map(statistics.mean, by_task.values())) if by_task else None


def wanted_runs(grid: Grid, records: Records) -> list[PlannedRun]:
    """The runs of a study that can be planned so far: those that decide, and the runs of all cells that are chosen.

    A run comes after the run that it starts from.
    """
    cells = [cell for group in grid.groups if (cell := chosen(grid, group, records)) is not None]
    planned = [*grid.deciding(), *(grid.run(cell, seed) for seed in grid.study.seed_list for cell in cells)]
    unique: dict[str, PlannedRun] = {}
    for run in planned:
        for needed in (*run.sources, run):
            unique.setdefault(needed.settings_id, needed)
    return list(unique.values())
