"""mt-dnn data: downloads a benchmark from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt_dnn.cli.arguments import separated


def data(
    benchmark: Annotated[
        str, typer.Argument(help="glue, nli, superglue, arc, commonsense_qa, squad, ner, chunking or xnli.")
    ],
    output: Annotated[Path | None, typer.Option(help="Where the canonical rows go; default: data/<benchmark>.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all.")] = None,
    source: Annotated[str | None, typer.Option(help="Local folder laid out like the hub's repository.")] = None,
) -> None:
    """Download a benchmark from the Hugging Face hub into canonical rows."""
    from data_utils.benchmarks.hub import download

    report = download(benchmark, output or Path("data") / benchmark, tasks=separated(tasks), source=source)
    raise typer.Exit(report.finish())
