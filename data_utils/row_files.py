"""Reads files of rows in every format, row by row: TSV, CSV, JSONL, Parquet and CoNLL, plain or ``.gz``.

All formats follow one rule; docs/own_data.md describes it ("Files of rows"). Values stay as they are in the
file. rows.py and inputs.py turn them into text and compare them with a task.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_utils.column_names import (
    KNOWN,
    check_columns,
    check_no_names,
    check_renamed,
    optional,
    renamed,
    text_columns,
)
from data_utils.conll import read_conll
from data_utils.errors import UserError, listed
from data_utils.files import LONGEST_ROW, TOO_LONG, read_json, read_lines
from data_utils.old_mtdnn import old_columns, old_row
from data_utils.parquet import read_parquet
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS

# Characters that are text for us, but not for Python's reader of CSV, and what stands for them there. No file has it.
HIDDEN = {"\r": "\udc0d", "\0": "\udc00"}

Values = Iterator[tuple[str, Mapping[str, Any]]]  # (location, value of each column) for each row


def read_values(path: Path, task: TaskDef, *, labelled: bool = False) -> Values:
    """Yields the rows of a file, by our names of columns. A TSV without a header line is one of the old MT-DNN.

    ``labelled``: the file must have the column that the task file names as ``label``.

    Raises:
        UserError: the file cannot be read, has no column that the task needs, or a row has too few or too many.
    """
    if kind_of(path) == CONLL:
        yield from read_conll(check_conll(path, task), task.columns, labelled=labelled)
        return
    needed = [name for name in task.columns if (labelled or name != "label") and not optional(name, task.data_format)]
    for number, (location, values) in enumerate(_read(path, task)):
        if number == 0:
            there = location if kind_of(path) == "jsonl" else path
            check_renamed(there, values, needed, task.columns, task.name)
        yield location, renamed(values, task.columns)


def check_conll(path: Path, task: TaskDef) -> Path:
    """The path of a CoNLL file. Raises UserError if the rows of the task are no labelled words."""
    if task.data_format != "words":
        texts = ", ".join(DATA_FORMATS[task.data_format])
        raise UserError(
            f"{path}: a CoNLL file has words with labels, but {task.name} reads {texts}; use another format"
        )
    return path


def _read(path: Path, task: TaskDef) -> Values:
    """Yields the rows of a file that has them in lines, by the names in the file."""
    kind = kind_of(path)
    if kind not in READERS:
        yield from _read_tsv(path, task)
        return
    for location, values in READERS[kind](path):
        if kind == "csv" and None in values.values():
            raise UserError(f"{location}: expected {len(values)} columns")
        yield location, values


def kind_of(path: Path) -> str:
    """The ending of a file's name without ``.gz``, such as ``csv``, in lower case."""
    return path.name.removesuffix(".gz").rpartition(".")[2].lower()


def read_jsonl(path: Path, *, blank: bool = False, pipe: bool = False) -> Values:
    """Yields the rows of a JSONL file. ``blank``: yield blank lines too, as rows without values."""
    for number, line in read_lines(path, blank=blank, pipe=pipe):
        location = f"{path}:{number}"
        if line.strip():
            yield location, read_json(line, location)
        elif blank:
            yield location, {}


def read_csv(path: Path, *, blank: bool = False, pipe: bool = False) -> Values:
    """Yields the rows of a CSV file. Its first line that is not blank is the header line.

    Columns that are missing at the end of a row are None. ``blank``: see ``read_jsonl``.
    """
    csv.field_size_limit(LONGEST_ROW)  # for all of Python, whose own limit is 131,072 characters
    # A blank line counts: it may be inside quotes.
    reader = csv.reader((f"{_hidden(line)}\n" for _, line in read_lines(path, blank=True, pipe=pipe)), strict=True)
    header: list[str] = []
    try:
        for fields in reader:
            location = f"{path}:{reader.line_num}"
            if not fields or (len(fields) == 1 and fields[0].isspace()):
                if header and blank:
                    yield location, {}
            elif not header:
                header = [*map(_revealed, fields)]
                check_columns(path, header, ())
            elif len(fields) > len(header):
                raise UserError(f"{location}: expected {len(header)} columns")
            else:
                yield location, dict(zip_longest(header, map(_revealed, fields)))
    except csv.Error as error:
        problem = f"{TOO_LONG} (is a quote not closed?)" if "field limit" in str(error) else f"not CSV ({error})"
        raise UserError(f"{path}:{reader.line_num}: {problem}") from None


def _hidden(line: str) -> str:
    for char, other in HIDDEN.items():
        line = line.replace(char, other)
    return line


def _revealed(cell: str) -> str:
    for char, other in () if cell.isascii() else HIDDEN.items():
        cell = cell.replace(other, char)
    return cell


# By the ending of the file's name. Files with other endings are text.
READERS: Mapping[str, Callable[[Path], Values]] = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}


CONLL = "conll"


def has_names(fields: Sequence[str], task: TaskDef) -> bool:
    """Whether the first line of a TSV has names of columns, and is not a row of the old MT-DNN.

    It has them if it begins with ``uid``, if the task file says what the columns are called, or if it has all text
    columns of the task and another known name or too few fields for a row.
    """
    texts = text_columns(task.data_format, task.columns, fields)
    known = sum(field.strip().lower() in KNOWN for field in fields) > len(texts)
    fitting = set(texts) <= set(fields) and (known or len(fields) < len(texts) + 2)
    return fields[0] == "uid" or bool(task.columns) or fitting


def _read_tsv(path: Path, task: TaskDef) -> Iterator[tuple[str, dict[str, str]]]:
    expected = ["uid", "label", *DATA_FORMATS[task.data_format]]
    header: list[str] = []
    named = False
    for number, line in read_lines(path):
        fields, location = line.split("\t"), f"{path}:{number}"
        if not header:
            named = has_names(fields, task)
            if named:
                header = fields
                check_columns(path, header, [] if task.columns else text_columns(task.data_format, {}, header))
                continue
            check_no_names(location, fields, expected)
            header = old_columns(expected, task.data_format, len(fields))
        if len(fields) != len(header):
            raise UserError(f"{location}: {len(fields)} columns, expected {len(header)} ({listed(header)})")
        row = dict(zip(header, fields, strict=True))
        yield location, row if named else old_row(location, row, task.data_format)
