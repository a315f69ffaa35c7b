"""mt-dnn predict: predictions on raw text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from data_utils.files import write_json_lines
from mt_dnn.cli.arguments import Device, Precision, RunFolder


def predict(
    run: RunFolder,
    input: Annotated[
        str, typer.Option(help="Text file, one row a line, sentences of a pair split by a tab; - reads stdin.")
    ],
    task: Annotated[
        str | None, typer.Option(help="The task whose head predicts; default: the one that was trained.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON lines file; default: standard output.")] = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Predict on raw text."""
    from data_utils.task_types import DATA_FORMATS
    from mt_dnn.inference.predict import read_text
    from mt_dnn.inference.trained import load

    model = load(run, device, precision=precision)
    if task is None:
        if len(model.trained) > 1:
            raise UserError(f"--task: {run} was trained on several tasks; give one of {', '.join(model.trained)}")
        (task,) = model.trained
    rows = list(read_text(input, DATA_FORMATS[model.task(task).data_format]))
    try:
        predictions = model.predict(task, rows)
    except UserError as error:
        raise UserError(f"{input}: {error}") from None
    if output is None:
        for prediction in predictions:
            print(json.dumps(prediction, ensure_ascii=False))
    else:
        write_json_lines(output, predictions)
