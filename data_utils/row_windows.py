"""Reads a file of rows in windows, so that only the rows of a window are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from data_utils.errors import UserError
from data_utils.rows import Rows, chosen_records, collect_rows
from data_utils.soft_labels import COLUMN
from data_utils.task_def import TaskDef

WINDOW = 4096  # rows

Record = tuple[str, Mapping[str, str]]  # the location of a row, and the value of each column


def read_windows(
    path: Path,
    task: TaskDef,
    *,
    max_rows: int | None = None,
    sample: bool = False,
    test: bool = False,
    size: int | None = None,
) -> Iterator[Rows]:
    """Yields the rows of a file, at most ``size`` at a time (``WINDOW``). Together they are those of ``read_rows``.

    ``max_rows``, ``sample``, ``test``: see ``read_rows``. Drawn rows are all in memory.

    Raises:
        UserError: see ``read_rows``.
    """
    records = chosen_records(path, task, max_rows=max_rows, sample=sample, labelled=not test)
    yield from windows_of(path, records, task, test=test, size=size or WINDOW)


def windows_of(path: Path, records: Iterable[Record], task: TaskDef, *, test: bool, size: int) -> Iterator[Rows]:
    """Yields the records as rows, ``size`` at a time. There is at least one window."""
    remaining = iter(records)
    found = list(islice(remaining, size))
    opening, first = found[:1], collect_rows(path, found, task, test=test)
    yield first
    names = tuple(found[0][1])
    while found := list(islice(remaining, size)):
        rows = collect_rows(path, found, task, test=test, names=names)
        _check_alike((first, opening), (rows, found[:1]), task)
        yield rows


def _check_alike(before: tuple[Rows, list[Record]], after: tuple[Rows, list[Record]], task: TaskDef) -> None:
    """Raises UserError if only one of two windows has labels, soft labels, or a placeholder for labels.

    ``before``, ``after``: the rows of each, and its first record.
    """
    first, rows = before[0], after[0]
    if (first.label is None) != (rows.label is None) or first.notice != rows.notice:
        without_labels = [window for window in (before, after) if window[0].label is None]
        # A window without any label comes before one with a placeholder.
        _, record = min(without_labels, key=lambda window: bool(window[0].notice))
        collect_rows(first.path, record, task)  # a placeholder is no label of the task
        raise UserError(f"{record[0][0]}: no label, but other rows have one; label all rows or none")
    if (first.soft is None) != (rows.soft is None):
        without = first if first.soft is None else rows
        raise UserError(f"{without.locations[0]}: no {COLUMN}, but other rows have one")
