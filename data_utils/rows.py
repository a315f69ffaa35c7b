"""Canonical rows: one file per task and split, ``<folder>/<task>_<split>.<tsv|jsonl|csv|parquet|conll>`` or ``.gz``.

Every row has the text columns of its data format (``DATA_FORMATS``), such as ``premise`` and ``hypothesis``. The task
file may say that a file calls them otherwise (``columns``), or that a file has another name (``files``). Without a
column ``uid`` a row is named by its number in the file, from 1. Rows with choices may have further columns ``choice3``,
``choice4``, …, and the last ones may be empty. Lists and numbers of JSONL and Parquet become text in cells.py, so all
formats are read alike from there on. The task type decides how the columns ``label`` (labels.py) and ``soft_label``
(soft_labels.py) are read. All other columns are kept as extra columns. A TSV without a header line is read as a file of
the old MT-DNN (old_mtdnn.py).
Quotes in TSV are data, never syntax.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.cells import cells
from data_utils.column_names import CHOICE, check_columns, check_label_name
from data_utils.errors import EmptyRow, MissingRows, UserError
from data_utils.files import replacing
from data_utils.labels import read_labels
from data_utils.old_mtdnn import is_placeholder
from data_utils.row_files import read_values
from data_utils.soft_labels import COLUMN, read_soft_labels
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS

PLACEHOLDER = "@placeholder"  # the gap in the query of a cloze, which the choices fill
EXTENSIONS = ("tsv", "jsonl", "csv", "parquet", "conll")
SPACES = str.maketrans("\t\r\n", "   ")
SEED = 0  # of all draws of rows. It is not the run's seed, so that all runs use the same rows


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    ``first`` and ``second``: the first and the second text of each row, whatever the names of their columns are.
    ``label``: None if the file is unlabelled. A label depends on the kind of answer (labels.py). It is a class index, a
    number, the number of the right choice from 0, a list of such numbers, the class of each word, 0 or 1 for each
    class, or a list of ``(first character in the context, text)``.
    ``soft``: soft labels (soft_labels.py), or None. ``locations``: where in the file each row is.
    ``notice``: a line for the user, or an empty text.
    """

    path: Path
    uid: list[str]
    first: list[str]
    second: list[str] | None
    label: list[Any] | None
    extra: dict[str, list[str]]
    choices: list[list[str]] | None = None
    soft: list[Any] | None = None
    locations: list[str] = field(default_factory=list)
    notice: str = ""

    def __len__(self) -> int:
        return len(self.uid)


def file_names(task: TaskDef, split: str) -> list[str]:
    """The names that the file of a split may have in a folder of rows. The file of ``files`` comes last."""
    names = usual_names(task.name, split)
    return [*names, *([task.files[split]] if task.files.get(split, names[0]) not in names else [])]


def usual_names(task: str, split: str) -> list[str]:
    """The names of the file of a split without ``files``."""
    return [f"{task}_{split}.{extension}{gz}" for extension in EXTENSIONS for gz in ("", ".gz")]


def find_rows(folder: Path, task: TaskDef, split: str) -> Path:
    """Finds the file of a split.

    Raises:
        MissingRows: there is no file.
        UserError: there is more than one file.
    """
    names = file_names(task, split)
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        if split in task.files:
            raise MissingRows(f"{folder / task.files[split]}: no such file (files.{split} of task {task.name})")
        others = ", ".join(f".{extension}" for extension in EXTENSIONS[1:])
        raise MissingRows(f"{folder / names[0]}: no such file (nor {others}, each plain or .gz)")
    if len(found) > 1:
        raise UserError(f"{folder}: {' and '.join(path.name for path in found)} both exist; keep one of them")
    return found[0]


def read_rows(
    path: Path, task: TaskDef, *, max_rows: int | None = None, sample: bool = False, test: bool = False
) -> Rows:
    """Reads the rows of a file, and checks each against the task.

    Args:
        max_rows: read only the first rows.
        sample: read as many rows drawn over the whole file instead, in the order of the draw. The same rows are drawn
            every time, and a larger draw starts with those of a smaller one.
        test: the rows are a test split. Then a placeholder for labels, 0 or -1 in every row, is no label, and a file
            without the column that ``columns.label`` names is unlabelled.

    Raises:
        UserError: the file is empty or not UTF-8, a column is missing, a row has another number of columns, or a label
            or soft label does not fit the task. The message has the line.
    """
    records = chosen_records(path, task, max_rows=max_rows, sample=sample, labelled=not test)
    return collect_rows(path, records, task, test=test)


def chosen_records(
    path: Path, task: TaskDef, *, max_rows: int | None, sample: bool, labelled: bool
) -> Iterable[tuple[str, dict[str, str]]]:
    """The records of the rows that are read, see ``read_rows``. ``labelled``: see ``read_records``."""
    if sample and max_rows is not None:
        return _drawn_records(path, task, max_rows, labelled=labelled)
    return islice(read_records(path, task, labelled=labelled), max_rows)


def _drawn_records(path: Path, task: TaskDef, count: int, *, labelled: bool) -> list[tuple[str, dict[str, str]]]:
    """``count`` records of a file, or all of them if it has fewer, in the order in which they are drawn.

    The file is read twice, so that only the drawn records are in memory. ``labelled``: see ``read_records``.
    """
    rows = sum(1 for _ in read_records(path, task, labelled=labelled))
    turns = {number: turn for turn, number in enumerate(np.random.default_rng(SEED).permutation(rows)[:count].tolist())}
    found = [(turns[number], record) for number, record in enumerate(read_records(path, task)) if number in turns]
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def collect_rows(
    path: Path,
    records: Iterable[tuple[str, Mapping[str, str]]],
    task: TaskDef,
    *,
    test: bool = False,
    names: Sequence[str] = (),
) -> Rows:
    """Checks rows and puts them together. ``records``: (location, value of each column). ``path``: their file.

    ``names``: the columns of rows of this file that were checked before.

    Raises:
        UserError: see ``read_rows``.
    """
    texts = DATA_FORMATS[task.data_format]
    locations: list[str] = []
    columns: dict[str, list[str]] = {name: [] for name in names}
    for location, record in records:
        if not columns:
            columns = {name: [] for name in record}
            check_columns(path, columns, ["uid", *texts])
            if task.type.answer != "tokens" and "label" not in task.columns:
                check_label_name(path, list(columns))
        elif record.keys() != columns.keys():
            _widen(location, columns, record, len(locations), task)
        for name, values in columns.items():
            values.append(record.get(name, ""))
        locations.append(location)
    if not locations:
        raise UserError(f"{path}: the file is empty")
    options = sorted((name for name in columns if CHOICE.fullmatch(name)), key=lambda name: int(name[6:]))
    choices = None
    if "choice1" in texts:
        texts_of_rows = zip(*(columns[name] for name in options), strict=True)
        choices = [read_choices(*row) for row in zip(locations, texts_of_rows, strict=True)]
    first, *second = (columns[name] for name in texts if name not in options)
    used = ("uid", "label", COLUMN, *texts, *(options if choices else ()))
    if "words" in texts:
        for location, text in zip(locations, columns["words"], strict=True):
            check_words(location, text)
    if "query" in texts:
        _check_queries(locations, columns["query"])
    extra = {name: values for name, values in columns.items() if name not in used}
    subjects = choices or (second or [first])[0]
    labels, notice = columns.get("label"), ""
    if test and (notice := _without_labels(path, labels, task)):
        labels = None
    return Rows(
        path=path,
        uid=columns["uid"],
        first=first,
        second=second[0] if second else None,
        label=read_labels(locations, labels, task, subjects),
        extra=extra,
        choices=choices,
        soft=read_soft_labels(locations, columns.get(COLUMN), task, subjects),
        locations=locations,
        notice=notice,
    )


def _without_labels(path: Path, labels: list[str] | None, task: TaskDef) -> str:
    """Why a test split has no labels, for the user. Empty if it has some, or has none as its file says itself."""
    if labels is None:
        named = task.columns.get("label")
        missing = f"{path}: no column '{named}' (columns.label of task {task.name}), so its rows are unlabelled"
        return missing if named else ""
    if not is_placeholder(labels, task.labels, task.value_range):
        return ""
    return f"{path}: the label of all rows is {labels[0]}, which is no label of {task.name}: unlabelled"


def _widen(location: str, columns: dict[str, list[str]], record: Mapping[str, str], count: int, task: TaskDef) -> None:
    """Adds the further choices of a row to the columns of the ``count`` rows before it.

    Raises UserError if the row differs from them in another column.
    """
    texts = DATA_FORMATS[task.data_format]
    further = {name for name in {*columns, *record} if CHOICE.fullmatch(name) and name not in texts}
    further = further if "choice1" in texts else set()
    missing, added = columns.keys() - record.keys() - further, record.keys() - columns.keys() - further
    if missing or added:
        changes = [*((name, "missing") for name in sorted(missing)), *((name, "added") for name in sorted(added))]
        named = [f"{task.columns.get(name, name)} {change}" for name, change in changes]
        raise UserError(f"{location}: other columns than the rows before ({', '.join(named)})")
    columns.update({name: [""] * count for name in record.keys() - columns.keys()})


def write_rows(path: Path, rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> int:
    """Writes a canonical TSV with a header line. The file is complete or absent. Returns the number of rows.

    Tabs and line breaks inside a text become spaces.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("\t".join(columns) + "\n")
        for row in rows:
            stream.write("\t".join(str(row[column]).translate(SPACES) for column in columns) + "\n")
            count += 1
    return count


def read_records(path: Path, task: TaskDef, *, labelled: bool = False) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (location, text of each column) for each row of a file in any format. Nothing is compared with the task.

    The columns have our names. If the first row has no ``uid``, each row gets its number, from 1. ``labelled``: the
    file must have the column that the task file names as ``label``.

    Raises:
        UserError: the file cannot be read, or a value is nested where it may not be, or only some rows have a uid.
    """
    numbered = False
    for number, (location, values) in enumerate(read_values(path, task, labelled=labelled), 1):
        record = cells(location, values, task)
        if number == 1:
            numbered = "uid" not in record
        elif numbered and "uid" in record:
            raise UserError(f"{location}: has a uid, but the rows before have none; give each row one, or none")
        yield location, {"uid": str(number), **record} if numbered else record


def as_in_files(record: Mapping[str, str], task: TaskDef) -> dict[str, str]:
    """A row of ``read_records`` by the names of columns that the task file gives, so that it can be read again."""
    row = dict(record)
    if "choices" in task.columns:
        choices = [row.pop(name) for name in record if CHOICE.fullmatch(name)]
        row["choices"] = json.dumps([text for text in choices if text], ensure_ascii=False)
    return {task.columns.get(name, name): text for name, text in row.items()}


def read_choices(location: str, texts: Sequence[str]) -> list[str]:
    """The choices of a row. Empty texts at the end are no choices.

    Raises:
        EmptyRow: there are fewer than two, or an empty one before others.
    """
    count = max((number for number, text in enumerate(texts, 1) if text), default=0)
    if count < 2 or "" in texts[:count]:
        problem = f"choice{texts.index('') + 1} is empty" if count > 1 else f"{count} choices"
        raise EmptyRow(f"{location}: {problem}; a row has at least two choices, one after the other")
    return list(texts[:count])


def _check_queries(locations: Sequence[str], queries: Sequence[str]) -> None:
    for location, query in zip(locations, queries, strict=True):
        if (count := query.count(PLACEHOLDER)) != 1:
            raise UserError(
                f"{location}: query: has {PLACEHOLDER} {count} times; write it once, where a choice belongs"
            )


def check_words(location: str, text: str) -> None:
    """Raises EmptyRow for words that do not have exactly one space between two."""
    if "" in text.split(" "):
        problem = "two spaces, or one at an end" if text else "no words"
        raise EmptyRow(f"{location}: words: {problem}; write one space between two words")
