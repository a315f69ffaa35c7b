"""mt-dnn predict: predictions on raw text."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from data_utils.errors import os_errors
from mt_dnn.cli.arguments import RunFolder


def predict(
    run: RunFolder,
    task: Annotated[str, typer.Option(help="The task whose head predicts.")],
    input: Annotated[
        str, typer.Option(help="Text file, one row a line, sentences of a pair split by a tab; - reads stdin.")
    ],
    output: Annotated[Path | None, typer.Option(help="JSON lines file; default: standard output.")] = None,
) -> None:
    """Predict on raw text."""
    from data_utils.prepare import prepare
    from data_utils.rows import write_rows
    from data_utils.task_types import DATA_FORMATS
    from mt_dnn.inference.predict import read_text
    from mt_dnn.inference.trained import known_task, load_trained, predict_rows
    from mt_dnn.runs.predictions import prediction_records

    loaded = load_trained(run)
    config, tasks, tokenizer, _ = loaded
    definition = known_task(task, tasks, run)
    columns = DATA_FORMATS[definition.data_format]
    rows = list(read_text(input, columns, more="choice1" in columns))
    with TemporaryDirectory() as folder:
        name = f"{task}_test"
        write_rows(Path(folder) / f"{name}.tsv", rows, list(rows[0]))
        prepared = prepare(
            definition,
            "test",
            data_dir=Path(folder),
            cache_dir=Path(folder) / "prepared",
            tokenizer=tokenizer,
            max_length=config.data.max_length,
            stride=config.data.stride,
        )
        lines = [
            json.dumps(line, ensure_ascii=False)
            for line in prediction_records(definition, prepared, predict_rows(loaded, definition, prepared))
        ]
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        print(text, end="")
    else:
        with os_errors(output, "cannot be written"):
            output.write_text(text, encoding="utf-8")
