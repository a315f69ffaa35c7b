"""mt-dnn predict: predictions for the rows of a file."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError, os_errors, tell
from data_utils.files import check_not_rows
from data_utils.growing import growing
from mt_dnn.cli.arguments import BatchSize, Device, ModelName, Precision
from mt_dnn.cli.streams import check_open, discard

TABLES = (".csv", ".tsv", ".parquet", ".xlsx")  # what a reader would take for another format


def predict(
    run: ModelName,
    input: Annotated[
        str,
        typer.Option(
            help="TSV, CSV, JSONL or Parquet with names of columns, or CoNLL, plain or .gz; or plain text, one row a "
            "line, texts of a row split by tabs; - reads plain text from stdin."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            help="The task whose head predicts; default: the one that was trained, if all tasks read such rows."
        ),
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all-tasks", help="Predict with every task that reads such rows.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="JSON lines file, named OUTPUT.partial until it is complete; default: standard output."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of all options, as a soft label.")
    ] = False,
    logits: Annotated[bool, typer.Option("--logits", help="Write the outputs of the head.")] = False,
    batch_size: BatchSize = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Predict the rows of a file. Each row is a line of JSON, in the same order."""
    from mt_dnn.inference.predict import Wanted, check_tasks, predict_all, predict_file
    from mt_dnn.inference.trained import load
    from mt_dnn.runs.folder import check_not_of_run

    if all_tasks and task is not None:
        raise UserError(f"--task {task}: does not go with --all-tasks; leave one of them out")
    if output is None:
        check_open()
    else:
        check_not_rows(output, input)
        check_not_of_run(output)
        if output.suffix.lower() in TABLES:
            raise UserError(f"--output {output}: predictions are JSON lines; give a name that ends in .jsonl")
    model = load(run, device, precision=precision, batch_size=batch_size)
    check_tasks(model)
    wanted = Wanted(probabilities, logits)
    if all_tasks:
        found = predict_all(model, input, wanted, say=tell)
    else:
        if task is None:
            if len(model.trained) > 1 or len({known.data_format for known in model.tasks.values()}) > 1:
                known = ", ".join(f"{name} ({described.data_format})" for name, described in model.tasks.items())
                raise UserError(f"--task: {run} has several tasks; give one of {known}, or --all-tasks")
            (task,) = model.trained
        found = predict_file(model, task, input, wanted)
    with nullcontext(_print) if output is None else growing(output) as append:
        escaped = output is None and (sys.stdout.encoding or "").lower() not in ("utf-8", "utf8")
        for prediction in found:
            append(json.dumps(prediction, ensure_ascii=escaped))  # JSON can say it in ASCII too


def _print(line: str) -> None:
    """Prints a line at once.

    Raises:
        BrokenPipeError: nobody reads on.
        NotSaved: the disk is full.
        UserError: standard output cannot be written for another reason.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(sys.stdout)  # Python would try to write what is left in the buffer again at its end
        with os_errors("standard output", "cannot be written"):
            raise error
