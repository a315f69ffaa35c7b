"""mt-dnn runs: a list of run folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import AsJson


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder with run folders in it, at any depth.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List run folders: tasks, mode, seed, selection score, and whether the run has finished."""
    from data_utils.text_table import table
    from mt_dnn.studies.run_list import run_states

    found = list(run_states(folder))
    if as_json:
        print(json.dumps([{**asdict(run), "folder": str(run.folder)} for run in found]))
        return
    rows = [
        (
            str(run.folder.relative_to(folder)),
            ", ".join(run.tasks),
            run.mode,
            str(run.seed),
            run.score_text,
            f"{run.state}: {run.error}" if run.error else run.state,
        )
        for run in found
    ]
    print(table(("run", "tasks", "mode", "seed", "score", "state"), rows) if rows else f"{folder}: no runs")
