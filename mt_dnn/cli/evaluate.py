"""mt-dnn evaluate: scores of a trained model on labelled splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import tell
from mt_dnn.cli.arguments import AsJson, Device, Precision, RunFolder
from mt_dnn.cli.streams import check_open


def evaluate(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="Only this split; default: all labelled ones but train.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of canonical rows; default: the run's.")] = None,
    task_defs: Annotated[
        Path | None, typer.Option(help="More tasks, or other metrics and splits of the run's.")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    as_json: AsJson = False,
) -> None:
    """Score a trained model on labelled splits, also of tasks that it was not trained on but whose head it has."""
    from mt_dnn.inference.trained import load

    check_open()
    evaluation = load(run, device, task_defs, precision=precision).evaluate(task, split, data=data)
    for problem in evaluation.missing:
        tell(problem)
    print(json.dumps(evaluation.results) if as_json else evaluation)
