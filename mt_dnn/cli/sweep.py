"""mt-dnn sweep: makes the runs of a study."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import Overrides
from mt_dnn.threads import divide_threads

StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).")]
Profile = Annotated[str | None, typer.Option(help="Profile of the study file; default: the file as it is.")]
Runs = Annotated[Path, typer.Option(help="Folder of run folders. Studies share it, and runs that they have in common.")]
RUNS = Path("runs/studies")


def sweep(
    study: StudyFile,
    overrides: Overrides = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that make runs at the same time. They share cores and GPUs.")
    ] = 1,
    max_hours: Annotated[float | None, typer.Option(min=0, help="Begin no further run after so many hours.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs that are missing and what they cost, and make none.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Make the runs of a study.

    The same command goes on with a sweep that was cut off. It may run several times at once, also on machines that
    share the disk. A run that fails twice is named and left out.
    """
    from mt_dnn.distributed.output import lasting_output
    from mt_dnn.distributed.signals import exit_code, follow_launcher
    from mt_dnn.studies.grid import Grid
    from mt_dnn.studies.study import load_study
    from mt_dnn.studies.sweep import Sweep
    from mt_dnn.studies.workers import Workers

    if workers > 1:
        divide_threads(workers)
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    work = Sweep(Grid(load_study(study, profile), overrides or []), runs, deadline, workers)
    if dry_run:
        from mt_dnn.studies.dry_run import dry_run_text

        print(dry_run_text(work))
        return

    def arguments() -> list[str]:
        """Those of a worker."""
        left = [] if deadline is None else ["--max-hours", str(max(0, deadline - time.monotonic()) / 3600)]
        profiled = [] if profile is None else ["--profile", profile]
        return ["sweep", str(study), *(overrides or []), "--runs", str(runs), *profiled, *left, "--worker"]

    with lasting_output():
        if workers > 1:
            work.check_rows()
            code = Workers(workers, arguments, partial(work.note_death, say), say, lambda: work.say_progress(say))()
            raise typer.Exit(code)
        follow_launcher()
        work.alone, work.shown = not worker, not worker and sys.stderr.isatty()
        stopped_by = work(say)
    raise typer.Exit(exit_code(stopped_by) if stopped_by else 0)


def say(text: str) -> None:
    """Prints a line for the user."""
    print(text, file=sys.stderr, flush=True)
