"""The answers of trained models to the labelled rows of a split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import UserError, did_you_mean
from data_utils.files import read_json, read_lines
from data_utils.rows import Rows, find_rows, read_rows
from data_utils.set_aside import CARVED, HELD_OUT
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.task_types import DATA_FORMATS
from mt_dnn.inference.trained import load
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.folder import CONFIG, TASKS

Record = dict[str, Any]


@dataclass(frozen=True)
class NamedRun:
    """A run folder, and the name that it has in figures. Runs with the same name are seeds of one method."""

    name: str
    folder: Path

    @classmethod
    def parse(cls, text: str) -> NamedRun:
        """Reads ``name=folder``, or ``folder``, which is named by its last part."""
        match = re.fullmatch(r"([^/=]+)=(.+)", text)
        if match is None or Path(text).exists():
            return cls(Path(text).name, Path(text))
        return cls(match[1], Path(match[2]))


@dataclass(frozen=True)
class Answers:
    """The answers of a model to the N labelled rows of a split.

    ``labels``: the names of the C classes. ``gold`` and ``predicted``: class indices, (N,). ``probabilities``: (N, C).
    ``texts``: the texts of each row, and ``columns`` the further columns of the rows by name; empty unless asked for.
    """

    run: NamedRun
    task: str
    split: str
    labels: tuple[str, ...]
    uids: list[str]
    gold: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    texts: Sequence[tuple[str, ...]] = ()
    columns: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is right, (N,) bool."""
        return self.gold == self.predicted


def answers_of(
    run: NamedRun,
    task: str,
    split: str,
    *,
    with_rows: bool = False,
    data: Path | None = None,
    task_defs: Path | None = None,
    device: str | None = None,
) -> Answers:
    """The answers of a run, from the predictions in its folder. If it has none of this split, its model predicts.

    Args:
        with_rows: read the texts and further columns of the rows too.
        data: the folder of canonical rows; default: the run's.
        task_defs: a task file with further tasks that read a head of the run. Then its model predicts.

    Raises:
        UserError: no such task, split or run, the rows have no labels, or the answers are not classes.
    """
    file = run.folder / "predictions" / f"{task}_{split}.jsonl"
    written = task_defs is None and file.exists()
    if written:
        config = load_config(run.folder / CONFIG)
        definition = _task(load_task_defs(run.folder / TASKS), task, run.folder)
    else:
        model = load(run.folder, device, task_defs)
        config, definition = model.config, model.task(task)
    if definition.type.answer != "class":
        raise UserError(f"{run.folder}: {task}: a {definition.task_type} task; this analysis needs a task with classes")
    records = _written(file) if written else []
    if written and not with_rows and all("gold" in record for record in records):
        return _answers(run, definition, split, file, records, [record["gold"] for record in records])
    rows = _labelled_rows(config, definition, split, data)
    if not written:
        names = DATA_FORMATS[definition.data_format]
        texts = zip(rows.uid, *_texts(rows), strict=True)
        records = model.predict(task, [dict(zip(("uid", *names), row, strict=True)) for row in texts])
    assert rows.label is not None
    chosen = _row_numbers(rows, records, file)
    gold = [definition.labels[rows.label[number]] for number in chosen]
    return replace(
        _answers(run, definition, split, file, records, gold),
        texts=[tuple(column[number] for column in _texts(rows)) for number in chosen],
        columns={name: [values[number] for number in chosen] for name, values in rows.extra.items()},
    )


def _task(defs: Mapping[str, TaskDef], name: str, folder: Path) -> TaskDef:
    if name not in defs:
        hint = did_you_mean(name, defs) or f" (known: {', '.join(defs)})"
        raise UserError(f"{folder}: no task '{name}'{hint}")
    return defs[name]


def _written(file: Path) -> list[Record]:
    return [read_json(line, f"{file}:{number}") for number, line in read_lines(file)]


def _labelled_rows(config: RunConfig, task: TaskDef, split: str, data: Path | None) -> Rows:
    """The rows of a split. Rows that a run has set aside are in the file of its training rows."""
    source = "train" if split in (CARVED, HELD_OUT) else split
    rows = read_rows(find_rows(data or config.data.dir, task, source), task, test="test" in split)
    if rows.label is None:
        raise UserError(f"{rows.path}: has no labels, so answers cannot be compared with them")
    return rows


def _texts(rows: Rows) -> list[Sequence[str]]:
    return [rows.first] if rows.second is None else [rows.first, rows.second]


def _row_numbers(rows: Rows, records: Sequence[Record], file: Path) -> list[int]:
    """The number of the row with the uid of each record.

    Raises:
        UserError: there is no such row, or more than one.
    """
    asked = {record.get("uid") for record in records}
    positions: dict[Any, int] = {}
    for number, uid in enumerate(rows.uid):
        if uid in positions and uid in asked:
            raise UserError(f"{rows.path}: two rows have the uid '{uid}'; give each row another uid")
        positions[uid] = number
    if missing := asked - positions.keys():
        raise UserError(f"{file}: '{missing.pop()}' is no uid of {rows.path}; give the rows of the run with --data")
    return [positions[record["uid"]] for record in records]


def _answers(
    run: NamedRun, task: TaskDef, split: str, file: Path, records: Sequence[Record], gold: Sequence[str]
) -> Answers:
    """The answers in some records, beside the names of the right classes.

    Raises:
        UserError: a record has no class of the task.
    """
    numbers = {label: number for number, label in enumerate(task.labels)}
    try:
        return Answers(
            run=run,
            task=task.name,
            split=split,
            labels=task.labels,
            uids=[record["uid"] for record in records],
            gold=np.array([numbers[label] for label in gold], np.int64),
            predicted=np.array([numbers[record["prediction"]] for record in records], np.int64),
            probabilities=np.array([[float(record["scores"][label]) for label in numbers] for record in records]),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: is no file of predictions of {task.name} ({error!r})") from None
