"""mt-dnn init-task: a task file and a run file for rows of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import printable


def init_task(
    file: Annotated[
        Path, typer.Argument(help="Training rows: TSV, CSV, JSONL or Parquet with names of columns, or CoNLL; or .gz.")
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(help="Column of the texts; for pairs twice, for choices the question and each choice."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    uid: Annotated[str | None, typer.Option(help="Column with a name for each row; default: its number.")] = None,
    task_type: Annotated[
        str | None,
        typer.Option("--type", help="classification, regression, sequence_labelling, multi_label, ordinal …"),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Rows that choose the best model; default: a part of FILE is set aside.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Rows that are scored or predicted at the end.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the task; default: that of FILE.")] = None,
    encoder: Annotated[
        str, typer.Option(help="Pretrained encoder: hub name, folder or package:…")
    ] = "bert-base-uncased",
    output: Annotated[
        Path | None, typer.Option(help="Task file to write, NAME.yml; the run file NAME_run.yml is written beside it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace these files if they are there.")] = False,
) -> None:
    """Write a task file and a run file for a file of rows, and say what was guessed of it."""
    from data_utils.guess_columns import Asked
    from mt_dnn.runs.new_task import new_task, next_command

    asked = Asked(tuple(text or ()), label, uid, task_type)
    new = new_task(file, dev=dev, test=test, name=name, asked=asked, encoder=encoder, output=output, force=force)
    print(f"{file}: {new.rows:,} rows. What was found (the option at the beginning of a line changes it):")
    for option, found in new.said:
        print(f"  {option:<7}  {printable(found)}")
    print(f"\nwritten: {new.task_file} (what the task is) and {new.run_file} (how to train it)")
    print(f"next: {next_command(new)}")
