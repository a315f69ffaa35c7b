"""Rows given as Python values, such as texts, tuples and dictionaries, turned into canonical rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_utils.cells import cells
from data_utils.column_names import CHOICE, renamed
from data_utils.errors import UserError
from data_utils.rows import Rows, collect_rows
from data_utils.soft_labels import COLUMN
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS

Row = str | Sequence[str] | Mapping[str, Any]

SOURCE = Path("rows")  # messages name this instead of a file


def rows_from_python(rows: Iterable[Row], task: TaskDef, *, labelled: bool = False) -> Rows | None:
    """Turns rows into canonical rows of the task. Returns None if there are no rows.

    ``rows`` is a list, or any other iterable. Each row is one of these:

    - a text, for tasks with one text per row;
    - a tuple or list of texts in the order of the columns: ``(premise, hypothesis)``, ``(question, context)``,
      ``(premise, choice1, choice2, …)``. For a task of the format ``words``, the list holds the words of the sentence;
    - a dictionary by column name: the names that the task file gives in ``columns``, or ours. It may have a ``uid``. A
      row without a ``uid`` is named by its number, from 1.

    Values are read as in JSONL (cells.py). With ``labelled``, the labels and further columns of dictionaries are read
    too. Otherwise they are ignored.

    Raises:
        UserError: ``rows`` is a single row or a table, or a row does not fit the task. The message has its number.
    """
    if rows is None or isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise UserError(f"rows: give a list of rows, not a single {type(rows).__name__}; for one row, write [row]")
    if hasattr(rows, "itertuples"):
        raise UserError("rows: a table is not a list of rows; give its records, such as table.to_dict('records')")
    records = list(_records(rows, task, labelled=labelled))
    if not records:
        return None
    empty = dict.fromkeys((name for _, record in records for name in record), "")
    return collect_rows(SOURCE, ((location, {**empty, **record}) for location, record in records), task)


def _records(rows: Iterable[Row], task: TaskDef, *, labelled: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (location, text of each column) for each row."""
    needed = DATA_FORMATS[task.data_format]
    for number, row in enumerate(rows, 1):
        location = f"row {number}"
        if hasattr(row, "_asdict"):  # a named tuple is read by name, as a dictionary
            row = row._asdict()
        values = dict(row) if isinstance(row, Mapping) else _named(location, row, task)
        if any(name in values for name in task.columns.values()):
            values = dict(renamed(values, task.columns))
        kept = {}
        for name, value in values.items():
            is_text = name in (*needed, "choices") or bool("choice1" in needed and CHOICE.fullmatch(f"{name}"))
            if is_text and value is None:
                raise UserError(f"{location}: {name}: is of type NoneType, not a text; write '' for an empty text")
            if is_text or (labelled and name not in ("uid", COLUMN)):
                kept[f"{name}"] = value
        uid = values.get("uid")
        record = cells(location, {"uid": number if uid is None else uid, **kept}, task)
        if missing := [name for name in needed if name not in record]:
            raise UserError(f"{location}: no '{missing[0]}' among {_names(values)}; {_wanted(task)}")
        yield location, record


def _names(values: Mapping[Any, Any]) -> str:
    return ", ".join(f"{name}" for name in values) or "nothing"


def _named(location: str, row: Any, task: TaskDef) -> dict[str, Any]:
    """The values of a row by column name."""
    needed = DATA_FORMATS[task.data_format]
    if isinstance(row, str):
        row = (row,)
    elif "words" in needed and isinstance(row, Sequence):
        row = (row,)  # the row is the list of words
    if not isinstance(row, Sequence) or isinstance(row, bytes):
        raise UserError(f"{location}: is of type {type(row).__name__}; {_wanted(task)}")
    extra = range(len(needed), len(row)) if "choice1" in needed else ()
    names = [*needed, *(f"choice{number - needed.index('choice1') + 1}" for number in extra)]
    if len(row) != len(names):
        raise UserError(f"{location}: has {len(row)} {'text' if len(row) == 1 else 'texts'}; {_wanted(task)}")
    return dict(zip(names, row, strict=True))


def _wanted(task: TaskDef) -> str:
    columns = DATA_FORMATS[task.data_format]
    kind = "text" if len(columns) == 1 else "tuple"
    more = " and further choices" if "choice1" in columns else ""
    return f"a row of {task.name} is a {kind}, or a dictionary: {', '.join(columns)}{more}"
