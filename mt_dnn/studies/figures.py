"""The figures of a study: what its key ``figures`` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from data_utils.errors import UserError, did_you_mean, os_errors
from data_utils.files import LARGEST, read_json, read_text
from mt_dnn.distributed.ranks import say
from mt_dnn.section import PositiveInt, Section, UsablePath
from mt_dnn.studies.analysis_tables import TABLES, as_sheet
from mt_dnn.studies.bars import draw_agreement, draw_calibration, draw_challenge, draw_robustness
from mt_dnn.studies.figure_kinds import AxisFigure, Drawing, LearningCurves, SeedSpread, StudyFigure, TimeFigure
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.matrices import draw_confusion, draw_loss_surface, draw_tally
from mt_dnn.studies.records import Record
from mt_dnn.studies.sheets import Sheet
from mt_dnn.studies.study import Labels, as_labels, load_study

# Figures of analyses, by the key ``kind`` of what an analysis has written.
DRAWN: Mapping[str, Callable[[Mapping[str, Any], Path, str], list[Path]]] = {
    "confusion": draw_confusion,
    "agreement": draw_agreement,
    "loss_surface": draw_loss_surface,
    "robustness": draw_robustness,
    "challenge": draw_challenge,
    "tally": draw_tally,
    "calibration": draw_calibration,
}
NOT_DRAWN = ("neighbours",)  # a table
FEW_RUNS = ("confusion", "loss_surface", "tally")  # kinds that take one run or two


def draw_figures(grid: Grid, records: Mapping[str, Record], runs: Path | None, output: Path) -> list[Path]:
    """Draws every figure of a study: a png, a svg and a json each.

    Args:
        records: the records of its runs, by settings.
        runs: the folder of run folders, which learning curves are read from; None: they are left out.
        output: the folder of the figures.

    Returns:
        The files. A figure that has no run yet is left out, and this is said.

    Raises:
        UserError: a figure is of no known kind, has a wrong key, or cannot be written; or matplotlib is not installed.
    """
    paths: list[Path] = []
    for name, content in grid.study.figures.items():
        figure = parsed(grid, name, content)
        drawn = figure.draw(Drawing(grid, records, runs, output, name))
        if not drawn:
            reason = "no run of it is finished" if isinstance(figure, StudyFigure) else "its numbers are not there yet"
            say(f"figures.{name}: is not drawn, because {reason}")
        paths += drawn
    return paths


class AnalysisFigure(Section):
    """A figure of an analysis of some runs of the study. ``mt-dnn analyze study`` makes its numbers."""

    kind: str = Field(description="the analysis: a command of mt-dnn analyze, with _ for -")
    runs: dict[str, dict[str, Labels]] = Field(
        min_length=1, description="name in the figure → axis → label, or labels, of the runs that have it"
    )
    seeds: PositiveInt | None = Field(None, description="how many seeds of each; default: all, or 1 of a kind that "
        "takes at most two runs")  # fmt: skip
    options: dict[str, Any] = Field(default_factory=dict, description="options of the command, with _ for -")

    def draw(self, drawing: Drawing) -> list[Path]:
        file = drawing.output / f"{drawing.name}.json"
        return draw_file(file, drawing.output, drawing.name) if file.exists() else []

    def folders(self, drawing: Drawing) -> list[tuple[str, Path]]:
        """The runs to analyse: pairs (name, run folder). Empty while one of the names has no finished run."""
        assert drawing.runs is not None
        count = self.seeds or (1 if self.kind in FEW_RUNS else len(drawing.grid.study.seed_list))
        found = []
        for name, where in self.runs.items():
            records = [record for _, record in drawing.finished(where)]
            if not records:
                return []
            found += [(name, drawing.runs / record["run"]) for record in records[:count]]
        return found


class FileFigure(Section):
    """A figure of an analysis that was made by hand."""

    kind: str = Field(description="analysis")
    file: UsablePath = Field(description="the numbers, which a command of mt-dnn analyze has written")

    def draw(self, drawing: Drawing) -> list[Path]:
        return draw_file(self.file, drawing.output, drawing.name) if self.file.exists() else []


Figure = StudyFigure | AnalysisFigure | FileFigure
FIGURES: Mapping[str, type[Figure]] = {
    "axis": AxisFigure,
    "time": TimeFigure,
    "learning_curves": LearningCurves,
    "seed_spread": SeedSpread,
    "analysis": FileFigure,
    **dict.fromkeys((*DRAWN, *NOT_DRAWN), AnalysisFigure),
}


def load_grid(study: Path, profile: str | None = None, overrides: Sequence[str] = ()) -> Grid:
    """Reads a study file and checks all that can be checked without data: its cells, and its figures.

    Args:
        profile: as in ``load_study``.
        overrides: as in ``Grid``.

    Raises:
        UserError: the file cannot be read, or a key is unknown or wrong.
    """
    grid = Grid(load_study(study, profile), overrides)
    for name, content in grid.study.figures.items():
        parsed(grid, name, content)
    return grid


def parsed(grid: Grid, name: str, content: Mapping[str, Any]) -> Figure:
    """Reads a figure of a study file.

    Raises:
        UserError: it is of no known kind, or has a wrong key.
    """
    location = f"{grid.study.title}: figures.{name}"
    kind = str(content.get("kind"))
    if kind not in FIGURES:
        raise UserError(f"{location}: kind: no kind '{kind}'{did_you_mean(kind, FIGURES)} ({', '.join(FIGURES)})")
    try:
        figure = FIGURES[kind].model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        keys = ".".join(map(str, problem["loc"]))
        raise UserError(f"{location}: {keys}: {problem['msg'].removeprefix('Value error, ')}") from None
    axes = ("series", "axis", "panels")
    named: list[tuple[str, str | None, Sequence[str]]] = [(key, getattr(figure, key, None), ()) for key in axes]
    choices = [("where", figure.where)] if isinstance(figure, StudyFigure) else []
    choices += figure.runs.items() if isinstance(figure, AnalysisFigure) else ()
    named += [(key, axis, as_labels(labels)) for key, where in choices for axis, labels in where.items()]
    _check_axes(grid, named, location)
    return figure


def _check_axes(grid: Grid, named: Sequence[tuple[str, str | None, Sequence[str]]], location: str) -> None:
    """Raises UserError for an axis or label that the study does not have, or for an axis whose labels compete.

    ``named``: (key that names it, axis, labels).
    """
    study = grid.study
    for key, axis, labels in named:
        if axis is not None and axis not in study.axes:
            raise UserError(f"{location}: {key}: no axis '{axis}'{did_you_mean(axis, study.axes)}")
        if axis is not None and study.select is not None and axis in study.select.over:
            raise UserError(f"{location}: {key}: the labels of '{axis}' compete (select.over); name another axis")
        for label in labels:
            known = {cell.labels[str(axis)] for cell in grid.cells}
            if label not in known:
                raise UserError(f"{location}: {key}: {axis}: no label '{label}'{did_you_mean(label, known)}")


def draw_file(file: Path, output: Path, name: str) -> list[Path]:
    """Draws what ``mt-dnn analyze`` has written.

    Raises:
        UserError: the file cannot be read, is not from an analysis, or lacks a number; or a figure cannot be written.
    """
    record = _analysis(file)
    if record["kind"] in NOT_DRAWN:
        return [file]
    with _complete(file):
        return DRAWN[record["kind"]](record, output, name)


def analysis_sheets(grid: Grid, folder: Path) -> Iterator[Sheet]:
    """Yields the table of each analysis of a study whose numbers are there.

    Args:
        folder: where ``mt-dnn analyze study`` has written them.

    Raises:
        UserError: a file cannot be read, or is not from an analysis.
    """
    for name, content in grid.study.figures.items():
        figure = parsed(grid, name, content)
        if isinstance(figure, StudyFigure):
            continue
        file = figure.file if isinstance(figure, FileFigure) else folder / f"{name}.json"
        if file.exists():
            yield as_sheet(name.replace("_", " "), _analysis(file))


def _analysis(file: Path) -> Mapping[str, Any]:
    """What ``mt-dnn analyze`` has written into a file.

    Raises:
        UserError: the file cannot be read, is not from an analysis, or lacks a number of its table.
    """
    with os_errors(file, "cannot be read"):
        record = read_json(read_text(file, most=LARGEST), str(file))
    if record.get("kind") not in TABLES:
        raise UserError(f"{file}: not written by mt-dnn analyze: no analysis has the kind '{record.get('kind')}'")
    with _complete(file):
        TABLES[record["kind"]](record)
    return record


@contextmanager
def _complete(file: Path) -> Iterator[None]:
    """Raises UserError where the block finds that the record of an analysis lacks a number, or that one is wrong."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        message = "a number or name is missing or wrong; delete the file and start the analysis again"
        raise UserError(f"{file}: {message}") from None
