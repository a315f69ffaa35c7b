"""mt-dnn distill: soft labels from trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import Device, separated


def distill(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of the teachers, or their checkpoints.")],
    data: Annotated[Path, typer.Option(help="Folder of canonical rows.")],
    output: Annotated[Path, typer.Option(help="Folder for the rows with soft labels and a copy of the other splits.")],
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all that were trained.")] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each training split.")] = None,
    device: Device = None,
) -> None:
    """Label training rows with the probabilities of trained runs, the teachers; of several teachers, with the mean."""
    from mt_dnn.inference.distill import distill_command

    distill_command(runs, data=data, output=output, tasks=separated(tasks), max_rows=max_rows, device=device)
