"""mt-dnn report: the table of a study."""

from __future__ import annotations

import shlex
import shutil
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from mt_dnn.cli.arguments import Overrides
from mt_dnn.cli.sweep import RUNS, Profile, Runs, StudyFile


class Format(str, Enum):
    """How a table is written."""

    terminal, markdown, latex, csv = "terminal", "markdown", "latex", "csv"


def report(
    study: StudyFile,
    overrides: Overrides = None,
    profile: Profile = None,
    runs: Runs = RUNS,
    records: Annotated[Path | None, typer.Option(help="File of records, instead of the folder of run folders.")] = None,
    format: Annotated[
        Format | None,
        typer.Option(help="How the table is written; csv has a line for each cell. Default: terminal."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write; default: the terminal.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Folder for a page, index.html. It gets the figures of the study, and shows all in it."),
    ] = None,
    scores: Annotated[Path | None, typer.Option(help="Scores from a test server, YAML: row, column, value.")] = None,
    save_records: Annotated[Path | None, typer.Option(help="File for the records that the table is made of.")] = None,
) -> None:
    """Print the table of a study, from the records of its runs. Neither data nor weights are needed."""
    from data_utils.files import check_not_read, replacing
    from mt_dnn.runs.config_file import read_layers
    from mt_dnn.runs.folder import check_not_of_run
    from mt_dnn.studies.figures import draw_figures, load_grid
    from mt_dnn.studies.page import check_ours, write_page
    from mt_dnn.studies.report import Report

    if html is not None:
        check_ours(html / "index.html")
        for name, given in (("--output", output), ("--format", format and format.value)):
            if given is not None:
                raise UserError(f"{name} {given}: does not go with --html, which writes a page; leave one of them out")
    words = [str(study), *(overrides or []), *(["--profile", profile] if profile else [])]
    words += ["--runs", str(runs)] if runs != RUNS else []
    commands = {name: shlex.join(["mt-dnn", name, *words]) for name in ("sweep", "report")}
    if records is not None:
        commands["report"] += shlex.join(["", "--records", str(records)]).removeprefix("''")
    grid = load_grid(study, profile, overrides or [])
    published = grid.study.published
    inputs = [study, *(layer for layer, _ in read_layers(grid.study.base)), *filter(None, (records, scores))]
    inputs += [published.file] if published else []
    for option, file in (("--output", output), ("--save-records", save_records)):
        if file is not None:
            check_not_read(file, *inputs, *runs.glob("*/record.json"), option=option)
            check_not_of_run(file, option)
    if output is not None and save_records is not None and output.resolve() == save_records.resolve():
        raise UserError(f"{output}: --output and --save-records name the same file; choose another name for one")
    made = Report(grid, commands, runs, records=records, scores=scores)
    if save_records is not None:
        made.save_records(save_records)
    if html is not None:
        draw_figures(made.grid, made.records, runs, html)
        print(write_page(made, html))
        return
    shown = output is None and sys.stdout.isatty()
    text = made.text((format or Format.terminal).value, width=shutil.get_terminal_size().columns if shown else None)
    if output is None:
        sys.stdout.write(text)
    else:
        with replacing(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
