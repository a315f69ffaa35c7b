"""mt-dnn sweep: makes the runs of a study."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import Overrides

StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).")]
Profile = Annotated[str | None, typer.Option(help="Profile of the study file; default: the file as it is.")]
Runs = Annotated[Path, typer.Option(help="Folder of run folders. Studies share it, and runs that they have in common.")]
RUNS = Path("runs/studies")


def sweep(
    study: StudyFile,
    overrides: Overrides = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    max_hours: Annotated[float | None, typer.Option(min=0, help="Begin no further run after so many hours.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs that are missing, and make none.")] = False,
) -> None:
    """Make the runs of a study. The same command goes on with a sweep that was cut off."""
    from mt_dnn.distributed.signals import exit_code
    from mt_dnn.studies.grid import Grid
    from mt_dnn.studies.study import load_study
    from mt_dnn.studies.sweep import Sweep

    grid = Grid(load_study(study, profile), overrides or [])
    work = Sweep(grid, runs, None if max_hours is None else time.monotonic() + 3600 * max_hours)
    if dry_run:
        for run in work.missing():
            print(f"{run.name}: {run}")
        return
    raise typer.Exit(exit_code(work(lambda text: print(text, file=sys.stderr, flush=True))))
