"""Tests over the examples of two runs, from the predictions in their run folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_utils.errors import UserError
from data_utils.metrics import METRICS
from data_utils.task_def import TaskDef
from mt_dnn.runs.predictions import Predictions, read_predictions
from mt_dnn.studies.example_scores import example_count, resampled
from mt_dnn.studies.layout import tasks_of
from mt_dnn.studies.statistics import RESAMPLES, Comparison, over_examples, resamples_for
from mt_dnn.studies.tables import Position, Table, score_at

Pair = tuple[Predictions, Predictions]  # of a run, and of the run that it is compared with


class ExampleTests:
    """The paired bootstrap of the cells of a table, where both sides have predictions.

    ``problems``: why runs have not been compared, one sentence each.

    Args:
        runs: the folder of run folders.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.problems: list[str] = []
        self._score: tuple[str, str | None] | None = None
        self._known: dict[Path, Predictions] = {}  # of the task and split that were asked for last

    def __call__(self, table: Table, position: Position) -> Comparison | None:
        """The mean difference over seeds to the reference, or None where predictions are missing."""
        score, there = score_at(*table.entries(position)), table.reference_of(position)
        if score is None or there is None:
            return None
        if self._score != score[:2]:
            self._score, self._known = score[:2], {}
        cell, reference = table.cells[position], table.cells[there]
        assert cell.cell is not None
        task = tasks_of(table.grid, cell.cell).evaluated[score.task]
        pairs = []
        for seed in sorted(cell.values.keys() & reference.values.keys()):
            names = (cell.records[seed]["run"], reference.records[seed]["run"])
            files = [self.runs / name / "predictions" / f"{score.task}_{score.split}.jsonl" for name in names]
            if not all(file.is_file() for file in files):
                return None
            try:
                pairs.append(matched(*(self._read(file, task) for file in files)))
            except UserError as error:
                problem = f"Not compared over examples of {score.task} {score.split}: {' and '.join(names)} ({error})."
                self.problems += [] if problem in self.problems else [problem]
                return None
        scale = 1 if METRICS[str(score.metric)].lower_is_better else 100
        resamples = resamples_for(table.comparisons)
        return over_pairs(str(score.metric), pairs, scale=scale, resamples=resamples) if pairs else None

    def _read(self, file: Path, task: TaskDef) -> Predictions:
        """Only what is scored is kept of the rows."""
        if file not in self._known:
            self._known[file] = read_predictions(file, task, with_records=False)
        return self._known[file]


def matched(predictions: Predictions, reference: Predictions) -> Pair:
    """Checks that both have predicted the same rows.

    Raises:
        UserError: they have not.
    """
    if predictions.uids_sha256 != reference.uids_sha256:
        raise UserError("the runs have predicted different rows, so their examples cannot be compared")
    return predictions, reference


def over_pairs(metric: str, pairs: Sequence[Pair], *, scale: float = 1, resamples: int = RESAMPLES) -> Comparison:
    """The paired bootstrap over examples of the mean difference of a metric, over pairs of runs on the same rows."""
    functions = [(resampled(metric, first), resampled(metric, second)) for first, second in pairs]

    def difference(rows: np.ndarray) -> np.ndarray:
        return scale * np.mean([first(rows) - second(rows) for first, second in functions], axis=0)

    return over_examples(difference, example_count(pairs[0][0]), resamples=resamples)
