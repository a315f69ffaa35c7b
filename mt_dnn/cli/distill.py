"""mt-dnn distill: soft labels from trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import separated


def distill(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of the teachers, or checkpoints of theirs.")],
    data: Annotated[Path, typer.Option(help="Folder of canonical rows.")],
    output: Annotated[Path, typer.Option(help="Where rows with soft labels go, and the other splits beside them.")],
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all that were trained.")] = None,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Only the first rows of each training split.")] = None,
) -> None:
    """Write what teachers think of training rows as soft labels, of several teachers the mean."""
    from mt_dnn.inference.distill import distill_command

    distill_command(runs, data=data, output=output, tasks=separated(tasks), max_rows=max_rows)
