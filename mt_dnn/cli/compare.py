"""mt-dnn compare: two runs, example by example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import AsJson


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder.")],
    second: Annotated[Path, typer.Argument(help="Run folder with predictions for the same rows.")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    flips: Annotated[int, typer.Option(min=0, help="Most flipped examples to show of either side.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Compare the predictions of two runs: paired bootstrap, McNemar's test, and which examples have flipped.

    Texts are shown if the runs had evaluation.predictions.text=true.
    """
    from mt_dnn.studies.compare import compare as compare_runs
    from mt_dnn.studies.compare import comparison_text

    found = list(compare_runs(first, second, task, split))
    print(json.dumps([difference.as_json() for difference in found]) if as_json else comparison_text(found, flips))
