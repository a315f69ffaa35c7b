"""Arguments that several subcommands take, and how a subcommand exits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="Run file (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, for example optimizer.lr=1e-4")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder, or one of its checkpoints.")]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run folder or one of its checkpoints; or a model of transformers: a folder, package:<package>/<folder>, "
        "or a name on the Hugging Face hub.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(help="The most rows in one forward pass; default: as in the run, or as many as fit its batch_tokens."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1 …; default: the device in the run's configuration."),
]
Precision = Annotated[
    str | None,
    typer.Option(help="Number type: fp32, bf16, fp16, tf32 on a GPU, or int8 on a CPU; default: as in training."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def separated(names: str | None) -> list[str] | None:
    """Splits a comma-separated option into names. None stays None and means all."""
    return [name.strip() for name in names.split(",")] if names is not None else None


def end(code: int) -> None:
    """Exits with this code. A worker that a launcher has started exits without Python's normal shutdown."""
    if "WORLD_SIZE" in os.environ:
        from mt_dnn.distributed.launch import leave

        leave(code)
    raise typer.Exit(code)
