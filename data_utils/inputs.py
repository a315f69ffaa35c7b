"""Rows without labels to predict, read one after the other from a file in any format.

A file with names of columns (CSV, JSONL, Parquet, and a TSV whose first line has them) needs the text columns of the
task, under the names that ``columns`` of the task file gives them. It may have a ``uid``, and all other columns are
ignored. A CoNLL file has words. Any other file is plain text: each line is a row, with tabs between its texts. A blank
line is a row too, but not above a header line or in CoNLL.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from data_utils.cells import cells
from data_utils.column_names import (
    CHOICE,
    OTHER_NAMES,
    check_columns,
    check_no_names,
    check_renamed,
    closest,
    renamed,
    text_columns,
)
from data_utils.conll import read_conll
from data_utils.errors import EmptyRow, UserError, listed, os_errors
from data_utils.files import decoded_lines, read_lines
from data_utils.row_files import CONLL, READERS, Values, check_conll, kind_of, read_csv, read_jsonl
from data_utils.rows import check_words, read_choices
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS

STDIN = "-"
NULLS = ("jsonl", "parquet")  # the formats in which a value can be null


@dataclass(frozen=True)
class Input:
    """A row of a file.

    ``location``: where in the file it is. ``number``: its number, from 1, also of blank rows. ``values``: by the name
    of the column in the file; for plain text a list of texts. ``columns``: the names in the header line or the schema
    of the file, for JSONL in this row. A row may lack values at its end.
    """

    location: str
    number: int
    values: Mapping[str, Any] | list[str]
    columns: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        return not self.values if isinstance(self.values, Mapping) else not "".join(self.values).strip()

    def uid(self, task: TaskDef) -> str:
        """The row's ``uid``. A row without one is named by its number."""
        uid = renamed(self.values, task.columns).get("uid") if isinstance(self.values, Mapping) else None
        return cells(self.location, {"uid": uid}, task)["uid"] or str(self.number)

    def fits(self, task: TaskDef) -> bool:
        """Whether the row's file has all text columns of the task, or the row as many texts if it is plain text."""
        return not self._misfit(task)

    def check(self, task: TaskDef) -> None:
        """Raises UserError if the row's file has other columns than the texts of the task."""
        if problem := self._misfit(task):
            if isinstance(self.values, Mapping):
                texts = DATA_FORMATS[task.data_format]
                check_renamed(self.location, self.columns, texts, task.columns, task.name)
                check_columns(self.location, renamed(dict.fromkeys(self.columns), task.columns), texts)
            raise UserError(f"{self.location}: {problem}")

    def texts(self, task: TaskDef) -> dict[str, str]:
        """The texts of the row by our names of columns, as rows of the task have them.

        Raises:
            EmptyRow: a text is empty, or columns at the end are missing.
            UserError: the row has too many texts, or a value that is not one.
        """
        columns = DATA_FORMATS[task.data_format]
        if self.is_blank:
            raise EmptyRow(f"{self.location}: the line is empty")
        if isinstance(self.values, Mapping):
            kept = {
                name: value
                for name, value in renamed(self.values, task.columns).items()
                if name in columns or ("choice1" in columns and (name == "choices" or CHOICE.fullmatch(name)))
            }
            record = cells(self.location, kept, task)
        else:
            if len(self.values) > len(columns) and "choice1" not in columns:
                raise UserError(f"{self.location}: {self._misfit(task)}")
            record = dict(zip(chain(columns, _further_choices(columns)), self.values, strict=False))
        return self._complete(record, task)

    def _complete(self, record: dict[str, str], task: TaskDef) -> dict[str, str]:
        columns = DATA_FORMATS[task.data_format]
        for name in columns:
            named = task.columns.get(name, name)
            if name not in record:
                raise EmptyRow(f"{self.location}: {named} is missing")
            if not CHOICE.fullmatch(name) and not record[name].strip():
                raise EmptyRow(f"{self.location}: {named} is empty")
        if "words" in columns:
            check_words(self.location, record["words"])
        if "choice1" in columns:
            options = sorted(filter(CHOICE.fullmatch, record), key=lambda name: int(name[6:]))
            read_choices(self.location, [record[name] for name in options])
        return record

    def _misfit(self, task: TaskDef) -> str:
        """What is wrong with the number of texts or the names of columns. Empty if nothing is."""
        columns = DATA_FORMATS[task.data_format]
        if isinstance(self.values, Mapping):
            there = renamed(dict.fromkeys(self.columns), task.columns)
            listed = {"choice1", "choice2"} if "choices" in there else set()
            missing = [name for name in columns if name not in there and name not in listed]
            return f"no column '{task.columns.get(missing[0], missing[0])}'" if missing else ""
        more = len(self.values) > len(columns) and "choice1" in columns
        found = f"{len(self.values)} tab-separated field{'s' if len(self.values) > 1 else ''}"
        return "" if len(self.values) == len(columns) or more else f"{found}, the task takes {len(columns)}"


def _further_choices(columns: Sequence[str]) -> Iterator[str]:
    """The names of choices after those in ``columns``."""
    return (f"choice{number}" for number in count(sum(map(bool, map(CHOICE.fullmatch, columns))) + 1))


def read_inputs(source: str, tasks: Sequence[TaskDef]) -> Iterator[Input]:
    """Yields the rows of a file. Only the row that is yielded is in memory.

    Args:
        source: a path, or ``-`` for plain text or TSV from standard input.
        tasks: the tasks that may read the rows. A TSV whose first line that is not blank has all text columns of one of
            them has a header line.

    Raises:
        UserError: the file is empty or cannot be read, a row has too many columns, or the first line has other names.
    """
    path = Path(source)
    kind = "" if source == STDIN else kind_of(path)
    by_line: dict[str, Callable[[Path], Values]] = {
        "jsonl": partial(read_jsonl, blank=True, pipe=True),
        "csv": partial(read_csv, blank=True, pipe=True),
    }
    readers: Mapping[str, Callable[[Path], Values]] = {**READERS, **by_line}
    found: Iterator[tuple[str, Any]]
    if kind == CONLL:
        found = _read_sentences(path, tasks)
    else:
        found = readers[kind](path) if kind in readers else _read_text(source, tasks)
    # None is a cell that a short row lacks, but in the formats with nulls an empty value.
    rows = (_input(location, number, values, nulls=kind in NULLS) for number, (location, values) in enumerate(found, 1))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{source}: the file is empty; write one row per line")
    return chain([first], rows)


def _read_sentences(path: Path, tasks: Sequence[TaskDef]) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The sentences of a CoNLL file, for the first task that reads words, by its names of columns."""
    task = next((task for task in tasks if task.data_format == "words"), tasks[0])
    name = task.columns.get("words", "words")
    for location, sentence in read_conll(check_conll(path, task), task.columns):
        yield location, {name: sentence["words"]}


def _input(location: str, number: int, values: Mapping[str, Any] | list[str], *, nulls: bool) -> Input:
    if not isinstance(values, Mapping):
        return Input(location, number, values)
    known = {name: value for name, value in values.items() if nulls or value is not None}
    return Input(location, number, known, tuple(values))


def _standard_input(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    with os_errors("standard input", "cannot be read"):
        yield from decoded_lines(stream, STDIN, blank=True)


def _read_text(source: str, tasks: Sequence[TaskDef]) -> Iterator[tuple[str, Mapping[str, str | None] | list[str]]]:
    """The rows of plain text, or of a TSV with a header line. In the latter, cells that a row lacks are None."""
    if source == STDIN:
        if sys.stdin is None:  # it was closed before Python started
            raise UserError(f"{source}: standard input is closed; give the rows through a pipe, or name a file")
        found = _standard_input(sys.stdin.buffer)
    else:
        found = read_lines(Path(source), blank=True, pipe=True)
    blank = []
    for number, line in found:
        fields, location = line.split("\t"), f"{source}:{number}"
        if line.strip():
            break
        blank.append((location, fields))
    else:
        yield from blank
        return
    if not any(set(text_columns(task.data_format, task.columns, fields)) <= set(fields) for task in tasks):
        _check_no_header(location, fields, tasks, rows=kind_of(Path(source)) == "tsv")
        yield from blank
        yield location, fields
        yield from ((f"{source}:{number}", line.split("\t")) for number, line in found)
        return
    header = fields
    check_columns(source, header, ())
    for number, line in found:
        fields = line.split("\t") if line.strip() else []
        if len(fields) > len(header):
            raise UserError(f"{source}:{number}: {len(fields)} columns, expected {len(header)} ({listed(header)})")
        yield f"{source}:{number}", dict(zip_longest(header, fields))


def _check_no_header(location: str, fields: Sequence[str], tasks: Sequence[TaskDef], *, rows: bool) -> None:
    """Raises UserError if the first line of plain text looks like names of columns.

    ``rows``: the file's name says that it has rows with columns. Then a name may be misspelled too.
    """
    folded = {field.strip().casefold() for field in fields}
    for task in tasks:
        texts = DATA_FORMATS[task.data_format]
        wanted = [task.columns.get(name, name) for name in texts]
        alone = len(fields) == len(wanted) == 1 and not task.columns
        if alone and fields[0].strip().lower() in OTHER_NAMES.get(texts[0], ()):
            raise UserError(
                f"{location}: looks like a column name, but the name has to be {wanted[0]} "
                "(if it is a row, write a line with this name above it)"
            )
        named = [name for name in wanted if name in task.columns.values()]
        if named and all(closest(name, fields) if rows else name.strip().casefold() in folded for name in named):
            try:
                check_renamed(location, fields, texts, task.columns, task.name)
            except UserError as error:
                raise UserError(f"{error} (if it is a row, write a line with the names above it)") from None
        check_no_names(location, fields, wanted)


def windows(rows: Iterator[Input], size: int) -> Iterator[list[Input]]:
    """Yields the rows in lists of ``size``. The next list is read when it is asked for."""
    window: list[Input] = []
    for row in rows:
        window.append(row)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window


def matching(rows: Iterator[Input], tasks: Sequence[TaskDef]) -> tuple[list[TaskDef], Iterator[Input]]:
    """Those of the tasks that the columns of the file fit, and all rows.

    The header line or the schema says what the file has. Where there is none, as in plain text and JSONL, the first row
    that is not blank says so. If all are blank, every task fits.

    Raises:
        UserError: the file fits none.
    """
    before: list[Input] = []
    for row in rows:
        before.append(row)
        if row.columns or not row.is_blank:
            fitting = [task for task in tasks if row.fits(task)]
            if not fitting:
                row.check(tasks[0])
            return fitting, chain(before, rows)
    return list(tasks), iter(before)


def readings(task: TaskDef) -> list[TaskDef]:
    """How the rows of a file to predict may be read: by the task's names of columns, or else by ours."""
    return [task, task.model_copy(update={"columns": {}})] if task.columns else [task]
