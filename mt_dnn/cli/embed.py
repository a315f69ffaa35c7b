"""mt-dnn embed: vectors of the texts in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import tell
from mt_dnn.cli.arguments import BatchSize, Device, ModelName, Precision, separated


def embed(
    run: ModelName,
    input: Annotated[
        str,
        typer.Option(
            help="TSV, CSV, JSONL or Parquet with names of columns, plain or .gz; or plain text, a text a line, or two "
            "with a tab between; - reads plain text from stdin.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="File of vectors: .npy, .parquet (with uid) or .safetensors.")],
    pooling: Annotated[
        str, typer.Option(help="How the states of a text's tokens become one vector: mean, cls, max or pooler.")
    ] = "mean",
    level: Annotated[
        int | None,
        typer.Option(
            help="Block whose output is taken, from 1; 0: output of the embedding module; default: the final states."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Column of the text, or two with a comma between; default: premise and, if there, hypothesis."
        ),
    ] = None,
    batch_size: BatchSize = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Write a vector for each text, or pair of texts, of a file."""
    from data_utils.files import check_not_rows
    from data_utils.vector_files import vector_file
    from mt_dnn.distributed.signals import exit_on_signals
    from mt_dnn.inference.embed_file import embed_file
    from mt_dnn.inference.trained import load
    from mt_dnn.runs.folder import check_not_of_run

    check_not_rows(output, input)
    check_not_of_run(output)
    model = load(run, device, precision=precision, batch_size=batch_size)
    parts = embed_file(
        model,
        input,
        columns=separated(columns),
        pooling=pooling,
        level=level,
        say=tell,
    )
    with exit_on_signals(), vector_file(output) as append:
        for uids, vectors in parts:
            append(uids, vectors)
