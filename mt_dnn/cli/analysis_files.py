"""What mt-dnn analyze writes and prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from data_utils.errors import os_errors

LABEL = ("kind", "task", "split")


NOT_OPTIONS = ("run", "run_b", "runs", "output", "name", "figures")  # parameters that are no options of the analysis


def finish(context: typer.Context, label: str | None = None) -> None:
    """Makes the record of the analysis that a command asks for, writes it and its figure, and prints its table.

    Args:
        context: has the name of the command, and what the user typed.
        label: name of the files, if the user gives none; default: analysis, task and split.
    """
    from mt_dnn.analyses.answers import NamedRun
    from mt_dnn.analyses.start import start
    from mt_dnn.studies.drawing import styled
    from mt_dnn.studies.figures import draw_file

    given = context.params
    figures, output = given.get("figures", False), Path(given["output"])
    if figures:
        styled()  # so that a missing library is said before the work
    runs = [*given.get("runs", ()), *(str(given[key]) for key in ("run", "run_b") if given.get(key) is not None)]
    options = {key: value for key, value in given.items() if key not in NOT_OPTIONS and value not in (None, (), [])}
    kind = str(context.command.name).replace("-", "_")
    record = start(kind, [NamedRun.parse(text) for text in runs], options, folder=output)
    label = given["name"] or label or "-".join(str(record[key]) for key in LABEL if record.get(key))
    file = written(record, output / f"{label}.json")
    for path in draw_file(file, output, label) if figures else [file]:
        print(path)


def written(record: Mapping[str, Any], file: Path) -> Path:
    """Writes the record of an analysis and prints its table."""
    from mt_dnn.runs.folder import write_json
    from mt_dnn.studies.analysis_tables import as_text

    with os_errors(file.parent, "cannot be written"):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record)
    print(as_text(record))
    return file


def study_analyses(
    study: Path, overrides: Sequence[str], profile: str | None, runs: Path, output: Path, figures: bool
) -> None:
    """Makes the analyses that the figures of a study ask for, and draws its figures."""
    from mt_dnn.analyses.answers import NamedRun
    from mt_dnn.analyses.start import start
    from mt_dnn.studies.drawing import styled
    from mt_dnn.studies.figure_kinds import Drawing
    from mt_dnn.studies.figures import AnalysisFigure, draw_figures, load_grid, parsed
    from mt_dnn.studies.sweep import Sweep

    grid = load_grid(study, profile, overrides)
    if figures:
        styled()
    records = Sweep(grid, runs).records()
    for name, content in grid.study.figures.items():
        figure, file = parsed(grid, name, content), output / f"{name}.json"
        if not isinstance(figure, AnalysisFigure) or file.exists():
            continue
        folders = figure.folders(Drawing(grid, records, runs, output, name))
        if not folders:
            print(f"figures.{name}: runs are missing; mt-dnn sweep {study} makes them", file=sys.stderr)
            continue
        print(f"{name}:")
        written(start(figure.kind, [NamedRun(*pair) for pair in folders], figure.options, folder=output), file)
    for path in draw_figures(grid, records, runs, output) if figures else ():
        print(path)
