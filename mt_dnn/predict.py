"""Predictions as JSON lines: uid, label or value, scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_utils.task_def import TaskDef
from mt_dnn.tasks import Decoded


def prediction_lines(task: TaskDef, uids: Sequence[str], decoded: Decoded) -> Iterator[dict[str, Any]]:
    """One object per row: ``{"uid", "prediction", "scores"}``; scores map labels or choices to probabilities."""
    for uid, prediction, scores in zip(uids, decoded.predictions, decoded.scores, strict=True):
        if task.task_type == "regression":
            yield {"uid": uid, "prediction": float(prediction)}
        elif task.task_type == "multiple_choice":
            named = {str(number): round(float(p), 6) for number, p in enumerate(scores, 1) if p > 0}  # 0: not there
            yield {"uid": uid, "prediction": str(int(prediction) + 1), "scores": named}
        else:
            named = {label: round(float(p), 6) for label, p in zip(task.labels, scores, strict=True)}
            yield {"uid": uid, "prediction": task.labels[int(prediction)], "scores": named}


def write_predictions(path: Path, task: TaskDef, uids: Sequence[str], decoded: Decoded) -> None:
    """Writes ``<task>_<split>.jsonl`` under a temporary name and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        for line in prediction_lines(task, uids, decoded):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    temporary.replace(path)
