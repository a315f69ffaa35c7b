"""mt-dnn sweep: makes the runs of a study."""

from __future__ import annotations

import sys
import time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from data_utils.errors import UserError
from mt_dnn.threads import divide_threads

StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).")]
Profile = Annotated[str | None, typer.Option(help="Profile of the study file; default: the file as it is.")]
Runs = Annotated[Path, typer.Option(help="Folder of run folders. Studies share it, and runs that they have in common.")]
RUNS = Path("runs/studies")


class Cluster(str, Enum):
    """Clusters that runs can be submitted to."""

    slurm = "slurm"


def sweep(
    study: StudyFile,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, for example optimizer.lr=1e-4; with --dry-run more study files too."),
    ] = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    records: Annotated[
        Path | None, typer.Option(help="File of records, as report --save-records writes it: these runs are not made.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that make runs at the same time. They share cores and GPUs.")
    ] = 1,
    max_hours: Annotated[float | None, typer.Option(min=0, help="Begin no further run after so many hours.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs that are missing and what they cost, and make none.")
    ] = False,
    cluster: Annotated[
        Cluster | None, typer.Option(help="Submit the workers to Slurm as a job array, and do not wait for them.")
    ] = None,
    partition: Annotated[str | None, typer.Option(help="With --cluster: partition of Slurm.")] = None,
    gpus_per_run: Annotated[
        int | None, typer.Option(min=0, max=1, help="With --cluster: GPUs of a worker (1).")
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
    guarded: Annotated[bool, typer.Option("--guarded", hidden=True)] = False,
) -> None:
    """Make the runs of a study.

    The same command goes on with a sweep that was cut off. It may run several times at once, also on machines that
    share the disk. A run that fails twice is named and left out. With --cluster, --max-hours is the time limit of a
    worker, which then saves and is queued again.
    """
    from mt_dnn.studies.figures import load_grid
    from mt_dnn.studies.records import restorable
    from mt_dnn.studies.sweep import Sweep

    _check_fits(cluster, partition, gpus_per_run)
    if workers > 1 and cluster is None:
        divide_threads(workers)
    deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
    overrides, others = _told_apart(overrides or [], dry_run=dry_run)
    restored = {} if records is None else restorable(records)
    work = Sweep(load_grid(study, profile, overrides), runs, deadline, workers, restored=restored)
    if not dry_run:
        _restore(work)
    profiled = [] if profile is None else ["--profile", profile]
    arguments = ["sweep", str(study), *overrides, "--runs", str(runs), *profiled]
    if dry_run:
        from mt_dnn.studies.dry_run import dry_run_text

        more = [Sweep(load_grid(path, profile, overrides), runs, restored=restored) for path in others]
        print(dry_run_text([work, *more]))
    elif cluster is not None:
        _submit(work, [*arguments, "--guarded"], partition, 1 if gpus_per_run is None else gpus_per_run, max_hours)
    elif workers > 1 or guarded:
        raise typer.Exit(_several(work, [*arguments, "--worker"]))
    else:
        raise typer.Exit(_alone(work, is_worker=worker))


def _check_fits(cluster: Cluster | None, partition: str | None, gpus_per_run: int | None) -> None:
    """Raises UserError for options that only a cluster reads, if there is none."""
    for name, given in (("--partition", partition), ("--gpus-per-run", gpus_per_run)):
        if cluster is None and given is not None:
            raise UserError(f"{name} {given}: has no effect without --cluster; leave it out, or add --cluster slurm")


def _restore(work: Any) -> None:
    """Writes the records that a sweep was given. They are checked first, so that none is written into a wrong run."""
    from mt_dnn.studies.records import restore

    if work.restored:
        work.records()
        restore(work.restored, work.runs)


def _told_apart(arguments: list[str], *, dry_run: bool) -> tuple[list[str], list[Path]]:
    """Overrides, and further study files.

    Raises:
        UserError: there are study files, and runs are to be made.
    """
    others = [Path(text) for text in arguments if "=" not in text]
    if others and not dry_run:
        raise UserError(
            f"{others[0]}: is no key=value; several study files go with --dry-run only, so sweep one by one"
        )
    return [text for text in arguments if "=" in text], others


def _submit(work: Any, arguments: list[str], partition: str | None, gpus: int, max_hours: float | None) -> None:
    """Submits workers to the cluster."""
    from mt_dnn.studies.cluster import Job, submit
    from mt_dnn.studies.sweep import say_unshown

    work.check()
    say_unshown(work.grid, print)
    folder = work.runs / "slurm"
    ids = submit(arguments, work.workers, folder.resolve(), Job(partition, gpus, max_hours))
    print(f"submitted {len(ids)} workers: {' '.join(ids)}; they print into {folder}")


def _several(work: Any, arguments: list[str]) -> int:
    """Makes the runs in workers with these arguments. Returns the exit code.

    A worker that is killed, for example because no memory is left, counts as a failed attempt of its run.
    """
    from mt_dnn.distributed.output import lasting_output
    from mt_dnn.studies.sweep import say_unshown
    from mt_dnn.studies.workers import Workers

    def all_arguments() -> list[str]:
        """Those of a worker that starts now."""
        left = None if work.deadline is None else max(0.0, work.deadline - time.monotonic()) / 3600
        return [*arguments, *([] if left is None else ["--max-hours", str(left)])]

    with lasting_output():
        work.check()
        say_unshown(work.grid, say)
        return Workers(
            work.workers, all_arguments, partial(work.note_death, say), say, partial(work.say_progress, say)
        )()


def _alone(work: Any, *, is_worker: bool) -> int:
    """Makes the runs in this process. Returns the exit code."""
    from mt_dnn.distributed.output import lasting_output
    from mt_dnn.distributed.signals import exit_code, follow_launcher

    with lasting_output():
        follow_launcher()
        work.alone, work.shown = not is_worker, not is_worker and sys.stderr.isatty()
        stopped_by = work(say)
    return exit_code(stopped_by) if stopped_by else 0


def say(text: str) -> None:
    """Prints a line for the user, between those of the run."""
    from mt_dnn.distributed import ranks

    ranks.say(text)
    sys.stdout.flush()  # a worker may be killed
