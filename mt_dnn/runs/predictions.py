"""Predictions as JSON objects, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_utils.files import write_json_lines
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS


def prediction_records(task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
    """Yields one object per row: ``uid``, ``prediction``, and further keys of the task type, such as ``scores``."""
    records = KINDS[task.task_type].decoding.records(task, split, decoded)
    for uid, record in zip(split.uids, records, strict=True):
        yield {"uid": uid, **record}


def write_predictions(path: Path, task: TaskDef, split: Prepared, decoded: Decoded) -> None:
    """Writes the predictions of a split as JSON lines, and makes the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_lines(path, prediction_records(task, split, decoded))
