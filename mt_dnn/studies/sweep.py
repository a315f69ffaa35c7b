"""Makes the runs of a study, one after the other. Processes and machines that share the disk may do so at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_utils.errors import NotSaved, UserError
from mt_dnn.runs.checkpoints import BEST, checkpoints, find_checkpoint, last_checkpoint, prune
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import FolderInUse, write_json
from mt_dnn.runs.run import Run
from mt_dnn.studies.choice import wanted_runs
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.records import Record, by_settings, failure_record, read_record, run_record, write_record

ATTEMPTS = 2  # a run that has failed so often is given up
SPENT = "spent.json"  # time of earlier starts, and what went wrong in them
POLL_S = 2.0  # seconds between two looks at runs of other processes


class Busy:
    """Another process is making the run."""


@dataclass
class Sweep:
    """The runs of a study and their folder.

    Args:
        runs: folder of run folders.
        deadline: time (``time.monotonic``) after which no further run is begun; None: never.
    """

    grid: Grid
    runs: Path
    deadline: float | None = None
    _known: dict[str, Record] = field(default_factory=dict)

    def records(self) -> dict[str, Record]:
        """The records of all planned runs that are finished or given up, by settings."""
        while True:  # a record may decide which runs come next
            unknown = [run for run in wanted_runs(self.grid, self._known) if run.settings_id not in self._known]
            found = {run.settings_id: record for run in unknown if (record := self._record(run)) is not None}
            if not found:
                return self._known
            self._known.update(by_settings(found.values()))

    def missing(self) -> list[PlannedRun]:
        """The planned runs that have no record yet."""
        records = self.records()
        return [run for run in wanted_runs(self.grid, records) if run.settings_id not in records]

    def __call__(self, say: Callable[[str], None]) -> int:
        """Makes all runs that are missing. Waits for runs that other processes make.

        Returns:
            The number of the signal that stopped it, or 0.

        Raises:
            UserError: a run cannot begin, because its settings or rows are wrong.
            NotSaved: the disk is full.
        """
        while missing := self.missing():
            if self.deadline is not None and time.monotonic() > self.deadline:
                say(f"time is up; {len(missing)} runs or more are left, and the same command makes them")
                return 0
            made = self._first_free(missing, say)
            if isinstance(made, int):
                return made
            if made is Busy:
                time.sleep(POLL_S)
        return 0

    def _first_free(self, missing: list[PlannedRun], say: Callable[[str], None]) -> Record | int | type[Busy]:
        """Makes the first of these runs that no other process is making. Returns as ``make_run`` does."""
        for number, run in enumerate(missing, 1):
            made = self._record(run)  # another process may have made it in the meantime
            if made is not None:
                return made
            label = f"{run} ({len(missing) - number} or more left after it)"
            outcome = make_run(run.config(self.runs), self.grid.study.keep, say, label=label)
            if outcome is not Busy:
                return outcome
        return Busy

    def _record(self, run: PlannedRun) -> Record | None:
        """The record of a run. None if it is not finished, or if it lacks the weights that the study wants kept."""
        folder = run.config(self.runs).output
        record = read_record(folder)
        if record is None or "error" in record or self.grid.study.keep == "nothing":
            return record
        return record if last_checkpoint(folder) is not None else None


def make_run(config: RunConfig, keep: str, say: Callable[[str], None], *, label: str) -> Record | int | type[Busy]:
    """Trains a run, or goes on with it, and writes its record.

    Args:
        keep: what stays of the weights, as in ``Study.keep``.
        label: what is said about the run.

    Returns:
        The record, or that of a failed attempt; the number of the signal that stopped the run; or ``Busy``.

    Raises:
        UserError: the run cannot begin.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    try:
        run = Run(config)
    except FolderInUse:
        return Busy
    except UserError as error:
        raise type(error)(f"{label}: {error}") from None
    spent = _read_spent(config.output)
    say(f"{config.name}: {label}")
    failure, summary = "", None
    try:
        summary = run()
    except FolderInUse:
        return Busy
    except NotSaved:
        raise
    except Exception as problem:  # a run that diverges, or does not fit into memory, is named and not a reason to stop
        failure = str(problem) if isinstance(problem, UserError) else f"{type(problem).__name__}: {problem}"
    spent["seconds"] = round(spent["seconds"] + time.monotonic() - started, 1)
    spent["cpu_seconds"] = round(spent["cpu_seconds"] + time.process_time() - cpu_started, 1)
    if summary is None:
        return _failed(config, " ".join(failure.split())[:500], spent, say)
    if isinstance(summary, int):
        write_json(config.output / SPENT, spent)
        return summary
    record = run_record(config, summary, {name: spent[name] for name in ("seconds", "cpu_seconds")})
    write_record(config.output, record)
    forget_weights(config.output, keep)
    return record


def forget_weights(folder: Path, keep: str) -> None:
    """Removes weights of a finished run. ``keep``: as in ``Study.keep``."""
    kept = find_checkpoint(folder) if keep != "nothing" and checkpoints(folder) else None
    prune(folder, [] if kept is None else [step for step, path in checkpoints(folder).items() if path == kept])
    if kept is None and (folder / BEST).is_symlink():
        (folder / BEST).unlink()
    if kept is not None and keep == "model":
        shutil.rmtree(kept / "trainer", ignore_errors=True)


def _failed(config: RunConfig, error: str, spent: dict[str, Any], say: Callable[[str], None]) -> Record:
    """Notes a failed attempt. After the last attempt the run has a record, which says so."""
    spent["errors"].append(error)
    record = failure_record(config, error, len(spent["errors"]))
    if len(spent["errors"]) < ATTEMPTS:
        say(f"{config.name}: failed, and is tried again: {error}")
        write_json(config.output / SPENT, spent)
    else:
        say(f"{config.name}: failed {ATTEMPTS} times and is given up: {error}")
        write_record(config.output, record)
    return record


def _read_spent(folder: Path) -> dict[str, Any]:
    file = folder / SPENT
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {"seconds": 0.0, "cpu_seconds": 0.0, "errors": [], **known}
