"""Predictions as JSON objects, one per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import UserError
from data_utils.files import read_json, read_lines, write_json_lines
from data_utils.metrics import Answers
from data_utils.prepare import check_unchanged
from data_utils.prepared import Prepared
from data_utils.rows import find_rows, read_rows
from data_utils.set_aside import CARVED, HELD_OUT
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS


def prediction_records(task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
    """Yields one object per row: ``uid``, ``prediction``, and further keys of the task type, such as ``scores``.

    Rows of a labelled split have ``gold``, the right answer. Rows with a question id have the number of their
    ``question``.
    """
    decoding = KINDS[task.task_type].decoding
    uids, records = split.uids, decoding.records(task, split, decoded)
    unknown = [None] * len(uids)
    gold: Iterable[Any] = decoding.gold(task, split) if split.labels is not None else unknown
    questions: Iterable[Any] = split.questions.tolist() if split.questions is not None else unknown
    for uid, record, right, question in zip(uids, records, gold, questions, strict=True):
        further = {"gold": right, "question": question}
        yield {"uid": uid, **record, **{key: value for key, value in further.items() if value is not None}}


def row_texts(task: TaskDef, split_name: str, split: Prepared, folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the texts of each row of a split: ``first``, and ``second`` and ``choices`` where its rows have them.

    Args:
        folder: the folder of rows that the split was prepared from.

    Raises:
        UserError: the file of rows is not there, or was changed since.
    """
    file = find_rows(folder, task, "train" if split_name in (CARVED, HELD_OUT) else split_name)
    check_unchanged(file, split.manifest["rows_sha256"])
    read = {key: split.manifest[key] for key in ("max_rows", "sample") if key in split.manifest}
    rows = read_rows(file, task, **read, test="test" in split_name)
    for row in split.manifest.get("row_numbers", range(len(rows))):
        texts = {"first": rows.first[row]}
        further = {"second": rows.second and rows.second[row], "choices": rows.choices and rows.choices[row]}
        yield {**texts, **{key: value for key, value in further.items() if value is not None}}


def write_predictions(
    path: Path, task: TaskDef, split: Prepared, decoded: Decoded, texts: Iterable[Mapping[str, Any]] | None = None
) -> None:
    """Writes the predictions of a split as JSON lines, and makes the folder if needed.

    Args:
        texts: further keys of each row, such as its texts; None: there are none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    records = prediction_records(task, split, decoded)
    if texts is not None:
        records = ({**record, **further} for record, further in zip(records, texts, strict=True))
    write_json_lines(path, records)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a labelled split, as they were written.

    ``records``: the object of each row. ``answers``: the same for metrics, rows in the same order.
    """

    records: Sequence[Mapping[str, Any]]
    answers: Answers

    @property
    def uids(self) -> list[str]:
        return [record["uid"] for record in self.records]

    def of(self, rows: np.ndarray) -> Answers:
        """The answers to some rows, each as often as its number is in ``rows`` (n,)."""
        answers = self.answers
        if answers.bounds is None:
            decisions, bounds = rows, None
        else:  # a row has several decisions
            parts = [np.arange(answers.bounds[row], answers.bounds[row + 1]) for row in rows]
            decisions, bounds = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
        return replace(
            answers,
            predictions=answers.predictions[decisions],
            labels=answers.labels[decisions],
            scores=None if answers.scores is None else answers.scores[decisions],
            bounds=bounds,
            questions=None if answers.questions is None else answers.questions[decisions],
        )


def read_predictions(path: Path, task: TaskDef) -> Predictions:
    """Reads the predictions of a labelled split.

    Raises:
        UserError: there is no such file, it does not fit the task, or it has no right answers.
    """
    records = [read_json(line, f"{path}:{number}") for number, line in read_lines(path)]
    if not records or "gold" not in records[0]:
        raise UserError(f"{path}: has no right answers; run mt-dnn train again with labelled rows, which writes them")
    try:
        answers = KINDS[task.task_type].decoding.read(task, records)
        if "question" in records[0]:
            answers = replace(answers, questions=np.array([record["question"] for record in records]))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no file of predictions of {task.name} ({error!r})") from None
    return Predictions(records, answers)
