"""Writes the rows of one split, and reports what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from data_utils.errors import UserError, os_errors
from data_utils.rows import write_rows

NO_GOLD = "-"  # the label in MNLI, SNLI and XNLI if the annotators did not agree


FOUND = "found"  # a key of a question's row: counted in the report, not written


LAYOUT_ERRORS = (AttributeError, LookupError, TypeError, ValueError)  # errors that mean: the file has another layout


Row = Mapping[str, str]


Counted = Callable[[Row], Iterable[str]]  # which labels of a row the report counts


@dataclass
class Written:
    """The report on one split: how many rows were written, how many were left out, how often each label occurs."""

    task: str
    split: str
    rows: int = 0
    no_gold: int = 0
    broken: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def cells(self) -> list[str]:
        """The report as cells of a table."""
        return [self.task, self.split, str(self.rows), str(self.no_gold), str(self.broken), self._labels()]

    def _labels(self) -> str:
        if set(self.labels) <= {""}:
            return "unlabelled"
        if len(self.labels) > 6:
            return f"{len(self.labels)} different, {min(self.labels)} to {max(self.labels)}"
        return ", ".join(f"{label} {count}" for label, count in sorted(self.labels.items()))


class AnySource(Protocol):
    """A source of a task's rows. Every class in sources.py and squad.py has these methods."""

    @property
    def files(self) -> Mapping[str, Sequence[str]]:
        """For each split, the names to look for. The first file that is found is read. `*` is as in the shell."""

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the file and the line or column that is wrong."""


def by_label(row: Row) -> list[str]:
    """Counts the label of a row."""
    return [row["label"]]


def by_word(row: Row) -> list[str]:
    """Counts the label of each word."""
    return row["label"].split(" ")


def by_answer(row: Row) -> list[str]:
    """Counts whether a question has an answer."""
    return [row[FOUND]]


def write_split(
    rows: Iterable[Row | None],
    columns: Sequence[str],
    *,
    task: str,
    split: str,
    output: Path,
    location: object,
    counted: Counted = by_label,
) -> Written:
    """Writes `<output>/<task>_<split>.tsv` with the columns uid, label and those given.

    Rows labelled '-' (no gold) and None (broken rows) are counted and left out. Messages begin with `location`. Raises
    UserError when no row is left, or the file cannot be written.
    """
    written = Written(task, split)

    def labelled() -> Iterator[Row]:
        for row in rows:
            if row is None:
                written.broken += 1
            elif row["label"] == NO_GOLD:
                written.no_gold += 1
            else:
                written.labels.update(counted(row))
                yield row

    kept = labelled()
    first = next(kept, None)
    if first is None:
        raise UserError(f"{location}: no usable rows of {task}; is it the right file, and complete?")
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"{task}_{split}.tsv"
        written.rows = write_rows(path, chain([first], kept), ["uid", "label", *columns])
    return written


def write_choices(rows: Sequence[Row | None], **options: Any) -> Written:
    """Writes rows as ``write_split`` does. Some rows may have more choices than others."""
    longest = max((row for row in rows if row), key=len, default={})
    columns = [column for column in longest if column not in ("uid", "label", FOUND)]
    filled = (row and {**dict.fromkeys(columns, ""), **row} for row in rows)
    return write_split(filled, columns, **options)
