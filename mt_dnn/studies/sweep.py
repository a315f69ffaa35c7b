"""Makes the runs of a study, one after the other. Processes and machines that share the disk may do so at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_utils.errors import UserError
from data_utils.rows import find_rows
from mt_dnn.distributed.signals import stop_signals
from mt_dnn.studies.attempts import note_death
from mt_dnn.studies.choice import is_decided, wanted_runs
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.identity import run_tasks
from mt_dnn.studies.layout import unshown
from mt_dnn.studies.make import Busy, give_up, kept_record, make_run
from mt_dnn.studies.records import Located, Record, by_settings
from mt_dnn.studies.weights import release

POLL_S = 2.0  # seconds between two looks at runs of other processes


@dataclass
class Sweep:
    """The runs of a study and their folder.

    Args:
        runs: folder of run folders.
        deadline: time (``time.monotonic``) after which no further run is begun; None: never.
        workers: processes that make runs at the same time; ``time_left`` depends on it.
        alone: False for one of several workers, which does not say how far the sweep is.
        shown, restored: whether the user sees the bars of each run; records for folders without one (``restorable``).
    """

    grid: Grid
    runs: Path
    deadline: float | None = None
    workers: int = 1
    alone: bool = True
    shown: bool = False
    restored: Mapping[str, Located] = field(default_factory=dict)
    _known: dict[str, Record] = field(default_factory=dict)
    _said: str = ""

    def records(self) -> dict[str, Record]:
        """The records of all planned runs that are finished or given up, by settings. Raises as ``kept_record``."""
        while True:  # a record may decide which runs come next
            unknown = [run for run in self.planned() if run.settings_id not in self._known]
            keep = self.grid.study.keep
            found = [kept_record(run.located(self.runs), keep, restored=self.restored.get(run.name)) for run in unknown]
            new = by_settings(record for record in found if record is not None)
            if not new:
                return self._known
            self._known.update(new)

    def planned(self) -> list[PlannedRun]:
        """The runs that are planned by the records that were read so far."""
        return wanted_runs(self.grid, self._known)

    def missing(self) -> list[PlannedRun]:
        """The planned runs that have no record yet, or no weights although runs start from them."""
        records, keep = self.records(), self.grid.study.keep
        missing = [run for run in self.planned() if run.settings_id not in records]
        while True:  # a source that has to be made again may start from another run
            known = {run.settings_id for run in missing}
            sources = {run.source.settings_id: run.source for run in missing if run.source is not None}
            gone = [
                source
                for name, source in sources.items()
                if name not in known and kept_record(source.located(self.runs), keep, starting(source, missing)) is None
            ]
            if not gone:
                return missing
            missing = [*gone, *missing]

    def __call__(self, say: Callable[[str], None]) -> int:
        """Makes all runs that are missing. Waits for runs that other processes make.

        Returns:
            The number of the signal that stopped it, or 0.

        Raises:
            UserError: a run cannot begin, because its settings or rows are wrong.
            NotSaved: the disk is full.
        """
        self.check()
        if self.alone:
            say_unshown(self.grid, say)
        with stop_signals() as received:
            while missing := self.missing():
                if self.alone:
                    self.say_progress(say)
                if received:
                    return received[0]
                if self.is_late():
                    break
                made = self._first_free(missing, received, say)
                if isinstance(made, int):
                    return made
                self._release()
                if made is Busy:
                    time.sleep(POLL_S)
        self._release()
        if self.alone:
            self.say_progress(say)
        return 0

    def check(self) -> None:
        """Raises UserError if the table cannot be made, or if training rows of a run that is missing are not there."""
        make_table(self.grid, {})
        check_rows(self.missing())

    def is_late(self) -> bool:
        """Whether no further run may begin."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def progress(self) -> str:
        """How many runs are done, and how long the others may take, by the mean time of those that are."""
        records, missing = self.records(), self.missing()
        planned, without = self.planned(), {run.settings_id for run in missing}
        done = [records[run.settings_id] for run in planned if run.settings_id not in without]
        failed = sum("error" in record for record in done)
        undecided = "" if is_decided(self.grid, records) else " so far; more are planned when these are done"
        parts = [f"{len(done)} of {len(planned)} runs done{undecided}"]
        parts += [f"{failed} failed"] if failed else []
        seconds = [record["seconds"] for record in done if "error" not in record and "seconds" in record]
        if missing and seconds:
            rounds = max(len(missing) / self.workers, 1)
            parts.append(f"about {duration(rounds * statistics.mean(seconds))} left")
        if missing and self.is_late():
            parts.append("the time is up; the same command makes the others")
        return ", ".join(parts)

    def say_progress(self, say: Callable[[str], None]) -> None:
        """Says ``progress``, if it has changed since it was said."""
        text = self.progress()
        if text != self._said:
            say(text)
            self._said = text

    def note_death(self, say: Callable[[str], None], process: str, error: str) -> bool:
        """Counts a failed attempt of the run that a dead process was making. Returns whether there is one."""
        return any(note_death(run.located(self.runs), process, error, say) for run in self.missing())

    def _first_free(
        self, missing: list[PlannedRun], received: list[int], say: Callable[[str], None]
    ) -> Record | int | type[Busy]:
        """Makes the first of these runs that no other process is making. Returns as ``make_run`` does.

        A run whose source is missing has to wait. One whose source has failed is given up.
        """
        waiting = {run.settings_id for run in missing}
        for run in missing:
            if run.source is not None and run.source.settings_id in waiting:
                continue
            located, keep = run.located(self.runs), self.grid.study.keep
            give_up(located, say)
            options: dict[str, Any] = {"received": received, "shown": self.shown, "starting": starting(run, missing)}
            outcome = make_run(located, keep, say, label=str(run), **options)
            if outcome is not Busy:
                return outcome
        return Busy

    def _release(self) -> None:
        """Removes weights that stayed for runs which are done now. A run that is made again has a record, but waits."""
        waiting = {run.source.name for run in self.missing() if run.source is not None}
        for name in {run.source.name: None for run in self.planned() if run.source is not None}:
            if name not in waiting:
                release(self.runs / name)


def say_unshown(grid: Grid, say: Callable[[str], None]) -> None:
    """Says what the table of a study cannot show, before time is spent on it."""
    for sentence in unshown(grid):
        say(f"{grid.study.location}: {sentence}")


def check_rows(runs: Sequence[PlannedRun]) -> None:
    """Raises UserError if training rows of one of these runs are not there."""
    for run in runs:
        trained = run_tasks(run.given).trained
        for name in run.given.tasks or ():
            if name in trained:
                try:
                    find_rows(run.given.data.dir, trained[name], "train")
                except UserError as error:
                    raise type(error)(f"{run}: {error}") from None


def starting(source: PlannedRun, missing: Sequence[PlannedRun]) -> list[str]:
    """The names of the missing runs that start from a run."""
    return [run.name for run in missing if run.source is not None and run.source.settings_id == source.settings_id]


def duration(seconds: float) -> str:
    """A duration for people, for example ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
