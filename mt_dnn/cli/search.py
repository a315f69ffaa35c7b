"""mt-dnn search: searches for good settings with Optuna."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import typer

from mt_dnn.cli.arguments import Overrides
from mt_dnn.cli.sweep import RUNS, Profile, Runs, StudyFile, say
from mt_dnn.threads import divide_threads


def search(
    study: StudyFile,
    overrides: Overrides = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    workers: Annotated[
        int,
        typer.Option(min=1, max=256, help="Processes that make trials at the same time. They share cores and GPUs."),
    ] = 1,
    storage: Annotated[
        str | None, typer.Option(help="URL of a database for all machines; default: a journal file in --runs.")
    ] = None,
    worker: Annotated[bool, typer.Option("--worker", hidden=True)] = False,
) -> None:
    """Search for the settings of a study with Optuna, as its key `search` says.

    The same command goes on with a search that was cut off. Trials are runs: a sweep finds those with its settings.
    """
    from mt_dnn.distributed.output import lasting_output
    from mt_dnn.distributed.signals import exit_code, follow_launcher
    from mt_dnn.studies.figures import load_grid
    from mt_dnn.studies.search import Searching, summary
    from mt_dnn.studies.workers import Workers

    if workers > 1:
        divide_threads(workers)
    work = Searching(load_grid(study, profile, overrides or []), runs, storage)

    def arguments() -> list[str]:
        """Those of a worker."""
        options = {"--profile": profile, "--runs": str(runs), "--storage": storage}
        given = [text for name, value in options.items() if value is not None for text in (name, value)]
        return ["search", str(study), *(overrides or []), *given, "--worker"]

    with lasting_output():
        if not worker:
            work.prepare()
        if workers > 1:
            code = Workers(workers, arguments, partial(work.note_death, say), say, lambda: None)()
        else:
            follow_launcher()
            work.alone, work.shown = not worker, not worker and sys.stderr.isatty()
            stopped_by = work(say)
            code = exit_code(stopped_by) if stopped_by else 0
        if not worker:
            print(summary(work.studies))
    raise typer.Exit(code)
