"""What the columns of a file hold: figures over all rows, from which guess.py tells texts from labels."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from data_utils.bars import bar
from data_utils.cells import plain
from data_utils.column_names import check_columns, check_separated
from data_utils.errors import UserError
from data_utils.files import Spelled, read_lines, spelled
from data_utils.row_files import CONLL, READERS, kind_of

KINDS = ("tsv", *READERS, CONLL)
LONG_TEXT = 20  # characters that hardly any label has


@dataclass
class Column:
    """Figures of a column.

    ``rows``: how many rows have a value. ``different``: hashes of the values. ``words``, ``characters``: of all texts.
    ``lists``: how many values are lists. ``numbers``: how many are numbers, and ``integers`` how many of those have no
    fraction.
    """

    name: str
    rows: int = 0
    different: set[int] = field(default_factory=set)
    words: int = 0
    characters: int = 0
    lists: int = 0
    numbers: int = 0
    integers: int = 0

    def add(self, value: Any) -> None:
        if value is None or value == "":
            return
        self.rows += 1
        if isinstance(value, Mapping):
            self.different.add(hash(as_text(value)))
            return
        if (items := as_list(value)) is not None:
            self.lists += 1
            self.different.add(hash(tuple(items)))
            return
        text = as_text(value)
        self.different.add(hash(text))
        self.words += len(text.split())
        self.characters += len(text)
        number = as_number(text)
        if number is not None:
            self.numbers += 1
            self.integers += number.is_integer()

    @property
    def is_text(self) -> bool:
        """Whether the values read like sentences: they have several words, or are long."""
        texts = self.rows - self.lists
        if not texts or self.numbers == self.rows:
            return False
        several = self.words >= 3 * texts or self.characters >= LONG_TEXT * texts
        return several or (self.words >= 1.5 * texts and 2 * len(self.different) > self.rows)

    @property
    def is_unique(self) -> bool:
        return self.rows > 0 and len(self.different) == self.rows


def as_list(value: Any) -> list[str] | None:
    """The texts of a list, which TSV and CSV have as JSON. None for another value."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value, parse_float=Spelled)
        except (ValueError, RecursionError):
            return None
    return [as_text(item) for item in value] if isinstance(value, list | tuple) else None


def as_text(value: Any) -> str:
    """The text that a reader of rows makes of a value."""
    text = spelled(value := plain(value))
    return f"{value}" if text is None else text


def as_number(text: str) -> float | None:
    try:
        number = float(text.replace("_", "?"))  # Python would read 1_000
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def raw_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of a TSV, CSV, JSONL or Parquet file by the names of its columns.

    Raises:
        UserError: the file has another format, or cannot be read.
    """
    kind = kind_of(path)
    if kind not in KINDS:
        raise UserError(f"{path}: a file of rows ends in .{', .'.join(KINDS)}, or one of them and .gz; rename it")
    yield from (values for _, values in READERS[kind](path)) if kind in READERS else _table(path)


def _table(path: Path) -> Iterator[Mapping[str, Any]]:
    header: list[str] = []
    for number, line in read_lines(path):
        fields = line.split("\t")
        if not header:
            check_columns(path, header := fields, ())
            continue
        if len(fields) != len(header):
            raise UserError(f"{path}:{number}: {len(fields)} columns, expected {len(header)} ({', '.join(header)})")
        yield dict(zip(header, fields, strict=True))


def read_columns(path: Path) -> dict[str, Column]:
    """The figures of all columns of a file, by name.

    Raises:
        UserError: the file is empty, has another format, or cannot be read.
    """
    columns: dict[str, Column] = {}
    for row in bar(raw_rows(path), f"read {path.name}", "row"):
        for name, value in row.items():
            columns.setdefault(name, Column(name)).add(value)
    if not columns:
        raise UserError(f"{path}: the file has no rows")
    check_separated(path, columns)
    return columns


def count_labels(path: Path, column: str, *, items: bool) -> Counter[str]:
    """How often each label is in a column. ``items``: a value is a list of labels, or has spaces between them."""
    values = (row.get(column) for row in bar(raw_rows(path), f"count labels of {path.name}", "row"))
    filled = (value for value in values if value is not None and value != "")
    if not items:
        return Counter(map(as_text, filled))
    lists = ((as_list(value), value) for value in filled)
    return Counter(chain.from_iterable(as_text(value).split(" ") if found is None else found for found, value in lists))
