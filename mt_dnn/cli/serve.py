"""mt-dnn serve: answers requests over HTTP with a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import tell
from mt_dnn.cli.arguments import BatchSize, Device, ModelName, Precision


def serve(
    run: ModelName,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0: every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
    max_rows: Annotated[int, typer.Option(min=1, help="The most rows in a request.")] = 128,
    max_characters: Annotated[
        int, typer.Option(min=1, help="The most characters in a text, or in the words of a row.")
    ] = 10_000,
    max_bytes: Annotated[int, typer.Option(min=1, help="The most bytes in the body of a request.")] = 16_000_000,
    queue: Annotated[int, typer.Option(min=1, help="The most rows that wait. Further requests get code 429.")] = 2000,
    task_defs: Annotated[
        Path | None, typer.Option(help="Task file with more tasks that read heads of the run.")
    ] = None,
    batch_size: BatchSize = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Answer requests over HTTP: POST /predict/TASK, GET /tasks, GET /health; the page /docs explains them.

    At SIGTERM and Ctrl-C it accepts no further requests, answers those that it has accepted, and ends. A second one
    ends it at once.
    """
    from mt_dnn.inference.predict import check_tasks
    from mt_dnn.inference.requests import Limits
    from mt_dnn.inference.service import serve as run_server
    from mt_dnn.inference.trained import load

    model = load(run, device, task_defs, precision=precision, batch_size=batch_size)
    check_tasks(model)
    limits = Limits(max_rows, max_characters, max_bytes, queue)
    run_server(model, host, port, limits, tell)
