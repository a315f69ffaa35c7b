"""Predictions as JSON objects, one per line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.appended import Appended
from data_utils.errors import UserError, os_errors
from data_utils.files import read_json, read_lines, write_json_lines
from data_utils.metrics import Answers
from data_utils.prepare import check_unchanged
from data_utils.prepared import Prepared
from data_utils.rows import find_rows, read_rows
from data_utils.set_aside import CARVED, HELD_OUT
from data_utils.task_def import TaskDef
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.kinds import KINDS

WINDOW = 4096  # predictions that are in memory at once as JSON


def prediction_records(task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
    """Yields one object per row: ``uid``, ``prediction``, and further keys of the task type, such as ``scores``.

    Rows of a labelled split have ``gold``, the right answer. Rows with a question id have the number of their
    ``question``.
    """
    decoding = KINDS[task.task_type].decoding
    count, records = split.row_count, decoding.records(task, split, decoded)
    gold: Iterable[Any] = decoding.gold(task, split) if split.labels is not None else repeat(None, count)
    questions: Iterable[Any] = map(int, split.questions) if split.questions is not None else repeat(None, count)
    for uid, record, right, question in zip(split.each_uid(), records, gold, questions, strict=True):
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

    ``answers``: for metrics. ``rows``: how many there are. ``uids_sha256``: a hash of their names in their order.
    ``records``: the object of each row, if they were asked for.
    """

    answers: Answers
    rows: int
    uids_sha256: str = ""
    records: Sequence[Mapping[str, Any]] = ()

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


def read_predictions(path: Path, task: TaskDef, *, with_records: bool = True) -> Predictions:
    """Reads the predictions of a labelled split.

    Raises:
        UserError: there is no such file, it does not fit the task, or it has no right answers.
    """
    digest, records = hashlib.sha256(), list[Mapping[str, Any]]()
    rows = 0

    def parts() -> Iterator[Answers]:
        nonlocal rows
        remaining = (read_json(line, f"{path}:{number}") for number, line in read_lines(path))
        while found := list(islice(remaining, WINDOW)):
            if rows == 0 and "gold" not in found[0]:
                break
            rows += len(found)
            digest.update(json.dumps([record["uid"] for record in found]).encode())
            records.extend(found if with_records else ())
            yield _answers(found, task)

    try:
        with os_errors(path, "cannot be read"):
            answers = joined_answers(parts())
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no file of predictions of {task.name} ({error!r})") from None
    if answers is None:
        raise UserError(f"{path}: has no right answers; run mt-dnn train again with labelled rows, which writes them")
    return Predictions(answers, rows, digest.hexdigest(), records)


def _answers(records: Sequence[Mapping[str, Any]], task: TaskDef) -> Answers:
    answers = KINDS[task.task_type].decoding.read(task, records)
    if "question" in records[0]:
        answers = replace(answers, questions=np.array([record["question"] for record in records]))
    return answers


def joined_answers(parts: Iterable[Answers]) -> Answers | None:
    """The answers of all parts of a split together; None if there are no parts. Only one part is in memory at once."""
    with ExitStack() as files:
        arrays = {name: Appended(files) for name in ("predictions", "labels", "scores", "questions", "bounds")}
        last, decisions = None, 0
        for last in parts:
            for name, array in arrays.items():
                if (values := getattr(last, name)) is not None:
                    array.append(values if name != "bounds" else values[0 if array.is_empty else 1 :] + decisions)
            decisions += len(last.labels)
        if last is None:
            return None
        found: dict[str, Any] = {name: array.array() for name, array in arrays.items() if not array.is_empty}
        return replace(last, **found)
