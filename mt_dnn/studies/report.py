"""The report of a study: its table in any format, from the records of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from mt_dnn.studies.choice import wanted_runs
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.example_tests import ExampleTests
from mt_dnn.studies.formats import as_csv, as_latex, as_markdown, as_terminal
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.published import read_scores
from mt_dnn.studies.records import Record, by_settings, read_records, save_records
from mt_dnn.studies.remarks import remarks
from mt_dnn.studies.sheets import Sheet, scores_sheet, sheets
from mt_dnn.studies.tables import Table


class Report:
    """The table of a study with everything that is said around it.

    Args:
        commands: the commands ``sweep`` and ``report`` of the study, as the user types them.
        runs: the folder of run folders. It has the predictions that are compared example by example.
        records: a file of records; None: those in the run folders.
        scores: a file of scores that a test server has returned.

    Raises:
        UserError: a file cannot be read, or the study asks for what does not exist.
    """

    def __init__(
        self,
        grid: Grid,
        commands: Mapping[str, str],
        runs: Path,
        *,
        records: Path | None = None,
        scores: Path | None = None,
    ) -> None:
        self.grid, self.commands, self.runs, self.scores = grid, commands, runs, scores
        found = read_records(records or runs) if records is not None or runs.exists() else ()
        self.records = records_of(grid, found)

    @cached_property
    def table(self) -> Table:
        return make_table(self.grid, self.records, self._example_tests)

    @cached_property
    def _example_tests(self) -> ExampleTests:
        return ExampleTests(self.runs)

    @cached_property
    def sheets(self) -> list[Sheet]:
        """The sheets of the table, and that of the test server."""
        found = sheets(self.table)
        if self.scores is not None:
            published = self.table.published
            returned = read_scores(self.scores, published and published.header)
            found.append(scores_sheet(returned, published, "Test server"))
        return found

    @cached_property
    def notes(self) -> list[str]:
        return [*remarks(self.table, self.commands["sweep"]), *self._example_tests.problems]

    def text(self, kind: str, *, width: int | None = None) -> str:
        """The report in a format. ``width``: of the terminal in characters, if it is shown on one."""
        title = self.grid.study.title
        if kind == "csv":
            return as_csv(self.table)
        if kind == "latex":
            return as_latex(title, self.sheets, self.notes)
        if kind == "markdown":
            made_by = f"Made by `{self.commands['report']}`."
            return as_markdown(title, self.sheets, [*self.notes, made_by])
        return as_terminal(title, self.sheets, self.notes, width=width)

    def save_records(self, file: Path) -> None:
        """Writes the records of the study's runs, also of those that only decide between settings."""
        save_records(file, self.records.values())


def records_of(grid: Grid, records: Iterable[Record]) -> dict[str, Record]:
    """The records of the runs of a study, by settings. Which runs it has may depend on records.

    Raises:
        UserError: two of them have the same settings, but have read different rows or weights.
    """
    given: dict[str, list[Record]] = {}
    for record in records:
        given.setdefault(record["settings_id"], []).append(record)
    known: dict[str, Record] = {}
    while True:
        wanted = [run.settings_id for run in wanted_runs(grid, known)]
        found = by_settings(record for name in wanted if name not in known for record in given.get(name, ()))
        if not found:
            return known
        known.update(found)
