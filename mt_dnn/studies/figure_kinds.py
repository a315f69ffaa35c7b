"""The kinds of figures that a study file may ask for, drawn from the records of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mt_dnn.section import Section
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.choice import Records, chosen
from mt_dnn.studies.curves import draw_axis, draw_learning_curves, draw_seed_spread, draw_time
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.run_scores import learning_curve, score_of
from mt_dnn.studies.show import Score
from mt_dnn.studies.study import Labels


class Drawing:
    """What a figure is drawn from, and where to."""

    def __init__(self, grid: Grid, records: Records, runs: Path | None, output: Path, name: str) -> None:
        self.grid, self.records, self.runs, self.output, self.name = grid, records, runs, output, name

    def finished(self, where: Mapping[str, Any]) -> Iterator[tuple[Cell, Mapping[str, Any]]]:
        """Yields (cell, record) for each finished run of the chosen cells that have these labels."""
        for group in self.grid.groups:
            cell = chosen(self.grid, group, self.records) if group[0].fits(where) else None
            if cell is None:
                continue
            for seed in self.grid.study.seed_list:
                record = self.records.get(self.grid.run(cell, seed).settings_id)
                if record is not None and "error" not in record:
                    yield cell, record


class StudyFigure(Section):
    """Settings that all figures of a study have."""

    kind: str = Field(description="the kind of figure")
    score: str | None = Field(
        None, description="<task>/<split>.<metric>; default: the mean over metrics and dev splits"
    )
    series: str | None = Field(None, description="axis with a line, point or panel for each label; default: method")
    where: dict[str, Labels] = Field(default_factory=dict, description="axis → label, or labels, of the runs to draw")
    title: str = Field("", description="what the score is called; default: its name")

    @field_validator("score")
    @classmethod
    def _is_score(cls, text: str | None) -> str | None:
        if text is not None:
            Score.parse(text)
        return text

    def draw(self, drawing: Drawing) -> list[Path]:
        """Draws the figure. Returns its files; none if no run of it is finished."""
        raise NotImplementedError

    @property
    def score_name(self) -> str:
        return self.title or self.score or "score"

    def line_of(self, cell: Cell) -> str:
        """The name of the line of a cell."""
        axis = self.series or "method"
        return cell.labels.get(axis, "all runs")


class AxisFigure(StudyFigure):
    """Score against the labels of an axis."""

    axis: str = Field(description="axis whose labels stand at the horizontal axis")

    def draw(self, drawing: Drawing) -> list[Path]:
        series: dict[str, dict[str, list[float]]] = {}
        for cell, record in drawing.finished(self.where):
            line = self.line_of(cell) if self.series is not None or self.axis != "method" else "all runs"
            value = score_of(record, self.score)
            if value is not None:
                series.setdefault(line, {}).setdefault(cell.labels[self.axis], []).append(value)
        if not series:
            return []
        return draw_axis(series, drawing.output, drawing.name, axis=self.axis, score=self.score_name)


class TimeFigure(StudyFigure):
    """Gain in score against time."""

    reference: str | None = Field(None, description="label that others are compared with; default: that of show")
    time: str = Field("seconds", pattern="^(cpu_)?seconds$", description="seconds by the clock, or cpu_seconds")

    def draw(self, drawing: Drawing) -> list[Path]:
        points: dict[str, dict[str, list[float]]] = {}
        for cell, record in drawing.finished(self.where):
            value = score_of(record, self.score)
            if value is not None:
                point = points.setdefault(self.line_of(cell), {"scores": [], "seconds": []})
                point["scores"].append(value)
                point["seconds"].append(record[self.time])
        reference = self.reference or drawing.grid.study.show.reference
        if reference not in points:
            return []
        return draw_time(points, drawing.output, drawing.name, reference=reference, score=self.score_name)


class LearningCurves(StudyFigure):
    """Score over the updates of training."""

    def draw(self, drawing: Drawing) -> list[Path]:
        series: dict[str, list[dict[int, float]]] = {}
        for cell, record in drawing.finished(self.where):
            log = None if drawing.runs is None else drawing.runs / record["run"] / "metrics.jsonl"
            if log is not None and log.exists() and (curve := learning_curve(log, record["tasks"], self.score)):
                series.setdefault(self.line_of(cell), []).append(curve)
        if not series:
            return []
        return draw_learning_curves(series, drawing.output, drawing.name, score=self.score_name)


class SeedSpread(StudyFigure):
    """The score of every run."""

    panels: str | None = Field(None, description="axis with a panel for each label; default: task, if there is one")

    def draw(self, drawing: Drawing) -> list[Path]:
        groups: dict[str, dict[str, list[float]]] = {}
        for cell, record in drawing.finished(self.where):
            value = score_of(record, self.score)
            if value is not None:
                panel = cell.labels.get(self.panels or "task", self.score_name)
                groups.setdefault(panel, {}).setdefault(self.line_of(cell), []).append(value)
        return draw_seed_spread(groups, drawing.output, drawing.name, score=self.score_name) if groups else []
