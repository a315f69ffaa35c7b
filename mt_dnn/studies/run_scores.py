"""Scores of single runs, from their records and logs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_utils.files import read_json, read_lines
from data_utils.metrics import METRICS
from data_utils.set_aside import CARVED
from mt_dnn.studies.show import Score


def score_of(record: Mapping[str, Any], text: str | None) -> float | None:
    """A score in the record of a run, see ``mean_score``."""
    found = [
        (Score(result["task"], result["split"], metric), value)
        for result in record["results"]
        for metric, value in result["scores"].items()
    ]
    return mean_score(found, text, record["tasks"])


def learning_curve(log: Path, trained: Sequence[str], text: str | None) -> dict[int, float]:
    """A score by update, from the evaluations in the log of a run, see ``mean_score``.

    Raises:
        UserError: the log is damaged.
    """
    curve: dict[int, float] = {}
    for number, line in read_lines(log):
        event = read_json(line, f"{log}:{number}")
        found = [
            (Score(task, split, metric), value)
            for task, splits in event.get("scores", {}).items()
            for split, scores in splits.items()
            for metric, value in scores.items()
        ]
        value = mean_score(found, text, trained)
        if value is not None:
            curve[event["step"]] = value
    return curve


def mean_score(found: Sequence[tuple[Score, Any]], text: str | None, trained: Sequence[str]) -> float | None:
    """The mean over all scores that a text such as ``sst2/dev`` leaves open. None if there is none.

    Without a task these are the scores of the trained tasks, and each task counts alike. Without a split they are those
    of the dev splits, or else of rows carved from train, which stand in for them while a run trains.
    """
    wanted = None if text is None else Score.parse(text)
    tasks = trained if wanted is None else [wanted.task]
    metric = None if wanted is None else wanted.metric
    here = [
        (score, value)
        for score, value in found
        if score.task in tasks and (score.metric == metric if metric else is_scalar(score.metric))
    ]
    split = None if wanted is None else wanted.split
    of_dev = [pair for pair in here if any(part in str(pair[0].split) for part in ("dev", "validation"))]
    kept = [pair for pair in here if pair[0].split == (split or CARVED)] if split or not of_dev else of_dev
    by_task = [[value for score, value in kept if score.task == task] for task in tasks]
    return statistics.mean(statistics.mean(values) for values in by_task if values) if kept else None


def is_scalar(metric: str | None) -> bool:
    return metric in METRICS and METRICS[metric].scalar
