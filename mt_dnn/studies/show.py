"""Show and Published: which table a study file asks for."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from mt_dnn.section import Section, UsablePath

SCORE = re.compile(r"(?P<task>[\w-]+)(/(?P<split>[\w-]+))?(\.(?P<metric>\w+))?")


class Score(NamedTuple):
    """Names scores of a run: ``<task>/<split>.<metric>``, or less of it. None means every one there is."""

    task: str
    split: str | None = None
    metric: str | None = None

    @classmethod
    def parse(cls, text: str) -> Score:
        match = SCORE.fullmatch(text)
        if match is None:
            raise ValueError(
                f"'{text}' is no score; write <task>/<split>.<metric>, for example mnli/dev_matched.accuracy"
            )
        return cls(**match.groupdict())


class Show(Section):
    """The table of a study."""

    rows: str | tuple[str, ...] | None = Field(
        None,
        description="axis whose labels are the rows, or a list of axes; default: all that are neither columns nor "
        "chosen by select",
    )
    columns: str | tuple[str, ...] | None = Field(
        None,
        description="axis whose labels are the columns, or a list of scores <task>/<split>.<metric>; default: the axis "
        "task. A task has a column, or a row, for each of its metrics",
    )
    metrics: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="task → the metrics of it that are shown; default: all"
    )
    split: str | None = Field(
        None,
        description="split whose scores are shown, test for test_matched too; default: the dev splits of a task, else "
        "the rows carved from train, else all splits besides train",
    )
    values: str = Field(
        "scores",
        description="what the cells show: scores; seconds, cpu_seconds, steps; time_ratio, the cpu_seconds over those "
        "of the reference, on a GPU the seconds; or a figure of the adversary, such as delta_ratio",
    )
    further: tuple[str, ...] = Field(
        (), description="further columns: values as above, except scores; the mean over the runs of a row"
    )
    average: Literal["none", "task_means", "all_numbers"] = Field(
        "none",
        description="last column: task_means is the mean over tasks of the mean of each task's metrics; all_numbers "
        "the mean of all columns",
    )
    reference: str | None = Field(
        None, description="label, of an axis of the rows or columns, that all others are compared with"
    )
    tested: str | None = Field(
        None, description="split whose differences to the reference are tested; default: all that are shown"
    )

    @field_validator("columns")
    @classmethod
    def _columns_are_scores(cls, columns: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in columns if isinstance(columns, tuple) else ():
            Score.parse(text)
        return columns

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes that ``rows`` names."""
        return (self.rows,) if isinstance(self.rows, str) else self.rows or ()

    def axes(self) -> list[str]:
        """The axes that are named here."""
        return [*self.row_axes, *([self.columns] if isinstance(self.columns, str) else [])]


class Published(Section):
    """Where numbers of a paper are: ``table`` in a YAML file, as in experiments/tat/published.yml."""

    file: UsablePath = Field(description="file of published numbers")
    table: str = Field(description="key of the table in it")
    rows: dict[str, str | None] = Field(
        default_factory=dict, description="row of ours → row of the paper, where they differ; null: it has none"
    )
    test_rows: dict[str, str] = Field(
        default_factory=dict, description="row of a test server's scores → row of the paper, where they differ"
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="column of ours → column of the paper, where they differ"
    )
    statistic: Literal["mean", "median", "best"] = Field(
        "mean", description="what the paper prints of its seeds; the same of ours is compared with it"
    )
