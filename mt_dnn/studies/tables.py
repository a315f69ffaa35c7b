"""The table of a study, as numbers: what each cell knows of its runs."""

from __future__ import annotations

import statistics as means
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

from data_utils.metrics import METRICS
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.choice import Records, chosen
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.layout import Entry, group_at, layout
from mt_dnn.studies.published import PublishedTable, read_published
from mt_dnn.studies.records import Record
from mt_dnn.studies.show import Score
from mt_dnn.studies.statistics import Comparison, Summary, summary

T = TypeVar("T")
TIMES = ("seconds", "cpu_seconds", "steps")  # values that records have by these keys
RATIO = "time_ratio"
PUBLISHED = "published"  # the value of columns that only the paper has


@dataclass(frozen=True)
class TableCell:
    """What stands where a row and a column meet.

    ``group``: the cells of the grid that compete for it. ``cell``: the chosen one; None while that is not known.
    ``runs``: the planned runs of the chosen cell, by seed. ``values``: by seed, as they are shown. ``baseline``: the
    score of the best constant. ``published``: the paper's number; an average is recomputed over the columns of this
    table. ``printed``: the average that the paper prints for the same columns. ``difference``: our mean, or what the
    paper prints of its seeds instead, minus the published number. ``shows_effect``: whether plain training beats the
    best constant there; None: unknown, or no score. ``seeds`` and ``examples``: against the reference, over seeds and
    over examples. ``holm_seeds`` and ``holm_examples``: their p-values, corrected for all cells of the table.
    """

    group: Sequence[Cell] = ()
    cell: Cell | None = None
    runs: Mapping[int, PlannedRun] = field(default_factory=dict)
    records: Mapping[int, Record] = field(default_factory=dict)
    values: Mapping[int, float] = field(default_factory=dict)
    baseline: float | None = None
    lower_is_better: bool = False
    published: float | None = None
    printed: float | None = None
    difference: float | None = None
    shows_effect: bool | None = None
    seeds: Comparison | None = None
    examples: Comparison | None = None
    holm_seeds: float | None = None
    holm_examples: float | None = None

    @cached_property
    def summary(self) -> Summary | None:
        """Over the seeds that have a value."""
        return summary(list(self.values.values()), lower_is_better=self.lower_is_better) if self.values else None

    @property
    def above_constant(self) -> float | None:
        """By how much the mean is better than the best constant; negative: it is worse."""
        if self.summary is None or self.baseline is None:
            return None
        above = self.summary.mean - self.baseline
        return -above if self.lower_is_better else above

    @property
    def failed(self) -> list[Record]:
        """The records of runs that failed."""
        return [record for record in self.records.values() if "error" in record]

    @property
    def is_missing(self) -> bool:
        """Whether runs are missing."""
        return bool(self.group) and len(self.records) < max(1, len(self.runs))


Position = tuple[int, int]  # row and column, from 0


@dataclass(frozen=True)
class Table:
    """A table. ``cells``: by (row, column). Positions without a cell belong to no run of the study.

    ``columns``: those of ``layout``, then columns that only the paper has.
    """

    grid: Grid
    rows: Sequence[Entry]
    columns: Sequence[Entry]
    cells: Mapping[Position, TableCell]
    reference: tuple[str, str] | None
    published: PublishedTable | None

    def entries(self, position: Position) -> tuple[Entry, Entry]:
        """The row and the column of a position."""
        return self.rows[position[0]], self.columns[position[1]]

    def reference_of(self, position: Position) -> Position | None:
        """Where the reference of a cell stands: at the same labels, but for the one axis that the reference names."""
        if self.reference is None:
            return None
        row, column = (numbers[number] for numbers, number in zip(self._references, position, strict=True))
        return None if row is None or column is None else (row, column)

    @cached_property
    def _references(self) -> tuple[list[int | None], list[int | None]]:
        """For each row the number of its reference's row, and for each column that of its reference's column."""
        assert self.reference is not None
        rows, columns = (_reference_numbers(entries, *self.reference) for entries in (self.rows, self.columns))
        return rows, columns

    def reference_cell(self, position: Position) -> TableCell | None:
        """The reference of a cell. None if the table has none."""
        there = self.reference_of(position)
        return None if there is None else self.cells.get(there)

    def is_reference(self, position: Position) -> bool:
        """Whether it is the reference that stands there."""
        return self.reference_of(position) == position

    @property
    def comparisons(self) -> int:
        """How many cells may be compared with a reference."""
        return sum(
            self.reference_of(position) not in (None, position) and self.is_tested(position) for position in self.cells
        )

    def is_tested(self, position: Position) -> bool:
        """Whether a difference to the reference is tested, see ``Show.tested``."""
        wanted, score = self.grid.study.show.tested, score_at(*self.entries(position))
        return wanted is None or (score is not None and score.split == wanted)

    @property
    def averaged(self) -> list[int]:
        """The numbers of the columns that an average is taken over."""
        shows_scores = self.grid.study.show.values == "scores"
        return [j for j, column in enumerate(self.columns) if column.score or not (shows_scores or column.value)]

    @cached_property
    def unscored(self) -> list[tuple[str, str | None]]:
        """The tasks and splits that no run has scored, for example because their rows were missing."""
        scored: dict[tuple[str, str | None], bool] = {}
        for position, cell in self.cells.items():
            score = score_at(*self.entries(position))
            if score is not None and any("error" not in record for record in cell.records.values()):
                split = (score.task, score.split)
                scored[split] = bool(cell.values) or scored.get(split, False)
        return [split for split, is_scored in scored.items() if not is_scored]

    def used(self) -> list[Record]:
        """The records that the table is made of, each once."""
        found = {record["run"]: record for cell in self.cells.values() for record in cell.records.values()}
        return list(found.values())


def _reference_numbers(entries: Sequence[Entry], axis: str, label: str) -> list[int | None]:
    """For each row, or column, the number of the one with the same labels, but for an axis."""
    keys = [(frozenset(entry.labels.items()), entry.score, entry.value) for entry in entries]
    numbers = {key: number for number, key in reversed(list(enumerate(keys)))}
    changed = [{**entry.labels, **({axis: label} if axis in entry.labels else {})} for entry in entries]
    return [
        numbers.get((frozenset(labels.items()), entry.score, entry.value))
        for labels, entry in zip(changed, entries, strict=True)
    ]


def score_at(row: Entry, column: Entry) -> Score | None:
    """The score that stands where a row and a column meet. None: another value, or an average."""
    return column.score or (row.score if not column.value else None)


def plain_table(grid: Grid, records: Records) -> Table:
    """The cells that runs of the study stand in, without further columns, averages and comparisons.

    Raises:
        UserError: ``show`` or ``published`` names something that does not exist.
    """
    form = layout(grid)
    published = read_published(grid.study.published) if grid.study.published else None
    cells = {
        (i, j): made
        for (i, row), (j, column) in product(enumerate(form.rows), enumerate(form.columns))
        if not column.value and (made := _cell(grid, records, row, column)) is not None
    }
    return Table(grid, form.rows, form.columns, cells, form.reference, published)


def _cell(grid: Grid, records: Records, row: Entry, column: Entry) -> TableCell | None:
    """A cell with the values of its runs. None if no run of the study belongs there."""
    score = score_at(row, column)
    group = group_at(grid, {**row.labels, **column.labels}, score)
    if group is None:
        return None
    cell = chosen(grid, group, records)
    if cell is None:
        return TableCell(group)
    runs = {seed: grid.run(cell, seed) for seed in grid.study.seed_list}
    found = {seed: dict(records[run.settings_id]) for seed, run in runs.items() if run.settings_id in records}
    finished = {seed: record for seed, record in found.items() if "error" not in record}
    if score is None:
        read = {seed: value_of(record, grid.study.show.values) for seed, record in finished.items()}
        return TableCell(group, cell, runs, found, known(read), lower_is_better=True)
    lower = METRICS[str(score.metric)].lower_is_better
    scale = 1 if lower else 100
    entries = known({seed: result_of(record, score) for seed, record in finished.items()})
    values = {seed: scale * entry["scores"][score.metric] for seed, entry in entries.items()}
    constants = [scale * entry["baseline"][score.metric] for entry in entries.values()]
    return TableCell(group, cell, runs, found, values, means.mean(constants) if constants else None, lower)


def result_of(record: Record, score: Score) -> Mapping[str, Any] | None:
    """The entry of a record that has a score."""
    for entry in record["results"]:
        if (entry["task"], entry["split"]) == (score.task, score.split) and score.metric in entry["scores"]:
            return entry
    return None


def value_of(record: Record, kind: str) -> float | None:
    """A value of a finished run that is no score. For a ratio of times it is the time: of a GPU, that of the clock."""
    if kind == RATIO:
        return record.get("seconds" if "device" in record.get("machine", {}) else "cpu_seconds")
    if kind in TIMES:
        return record.get(kind)
    return record.get("figures", {}).get(kind)


def known(values: Mapping[int, T | None]) -> dict[int, T]:
    """The values that are known, by seed."""
    return {seed: value for seed, value in values.items() if value is not None}
