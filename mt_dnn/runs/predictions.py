"""Predictions as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS


def prediction_records(task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
    """One object per row: ``{"uid", "prediction", …}`` with what the task type has to say (see mt_dnn/tasks)."""
    records = KINDS[task.task_type].decoding.records(task, split, decoded)
    for uid, line in zip(split.uids, records, strict=True):
        yield {"uid": uid, **line}


def write_predictions(path: Path, task: TaskDef, split: Prepared, decoded: Decoded) -> None:
    """Writes ``<task>_<split>.jsonl`` under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        for line in prediction_records(task, split, decoded):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    temporary.replace(path)
