"""mt-dnn data: downloads a benchmark from the Hugging Face hub, or makes the rows of the quick start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from mt_dnn.cli.arguments import separated


def data(
    benchmark: Annotated[
        str,
        typer.Argument(help="glue, nli, superglue, arc, commonsense_qa, squad, ner, chunking, xnli or quickstart."),
    ],
    output: Annotated[Path | None, typer.Option(help="Where the canonical rows go; default: data/<benchmark>.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Comma-separated tasks; default: all.")] = None,
    source: Annotated[str | None, typer.Option(help="Local folder laid out like the hub's repository.")] = None,
) -> None:
    """Download a benchmark from the Hugging Face hub into canonical rows.

    `quickstart` is no benchmark: its rows are made here, without a network.
    """
    from data_utils.benchmarks.hub import download
    from data_utils.benchmarks.quickstart import generate

    if benchmark == "quickstart":
        if tasks is not None or source is not None:
            raise UserError("data quickstart: its rows are made here, all of them; leave --tasks and --source out")
        for path in generate(output or Path("data/quickstart")):
            print(path)
        return
    report = download(benchmark, output or Path("data") / benchmark, tasks=separated(tasks), source=source)
    raise typer.Exit(report.finish())
