"""Numbers of a paper, read from a YAML file, and the averages that the paper prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import yaml

from data_utils.errors import UserError, did_you_mean
from data_utils.shipped import find
from data_utils.yaml_files import read_yaml_file
from mt_dnn.studies.layout import Entry
from mt_dnn.studies.show import Published

AVERAGE = "average"
ROUNDED = 0.05 + 1e-9  # a printed number with one decimal may be so far from the exact one


class Number(NamedTuple):
    """A column of a paper's table: a task, and a metric where the file names it."""

    task: str
    metric: str | None = None

    def __str__(self) -> str:
        return self.task if self.metric is None else f"{self.task} {self.metric}"


class PublishedTable:
    """A table of a paper: rows of numbers by column. A number that is not printed is left out.

    Args:
        content: the table in YAML. ``rows`` by name: a list of numbers, or a mapping from columns to a number or to a
            list of them. ``columns``: their names; or a mapping from their names to a metric or a list of metrics.
        location: of messages.

    Raises:
        UserError: a row does not fit the columns.
    """

    def __init__(self, content: Mapping[str, Any], location: str, names: Published | None = None) -> None:
        columns, rows = content.get("columns"), content.get("rows")
        self.names, self.header = names, columns
        if not isinstance(rows, dict):
            raise UserError(f"{location}: write the key rows, a mapping from the names of rows to their numbers")
        self.rows = {str(name): _row(columns, row, f"{location}.rows.{name}") for name, row in rows.items()}
        self.columns = list(dict.fromkeys(number for row in self.rows.values() for number in row))

    def row(self, entry: Entry) -> Mapping[Number, float]:
        """The paper's row for a row of ours. Empty if it has none."""
        name = self.row_name(entry)
        return {} if name is None else self.rows[name]

    def row_name(self, entry: Entry) -> str | None:
        """The name of the paper's row for a row of ours."""
        renamed = self.names.rows if self.names else {}
        candidates = [
            renamed.get(name, name) or "" for name in (entry.name, entry.task, ", ".join(entry.labels.values()))
        ]
        return next((name for name in candidates if name in self.rows), None)

    def average(self, row: str) -> float | None:
        """The average that the paper prints in a row."""
        return self.rows[row].get(Number(AVERAGE))

    def number(self, entry: Entry, row: Entry | None = None) -> Number | None:
        """The paper's column for a column of ours. ``row``: the row, if it has the score. None if there is none."""
        renamed = self.names.columns if self.names else {}
        for number in self.columns:
            if renamed.get(entry.name) in (str(number), f"{number.task}.{number.metric}"):
                return number
        task, score = renamed.get(entry.task, entry.task), entry.score
        of_task = [number for number in self.columns if number.task == task]
        for number in of_task:
            if number.metric is None or score is None:
                return number
            split = (score.split or "").partition("_")[2]
            if number.metric in (score.metric, f"{score.split}_{score.metric}", f"{split}_{score.metric}"):
                return number
        return None

    def strange_averages(self, rule: str) -> Iterable[tuple[str, float, float]]:
        """Yields (row, printed, recomputed) where a printed average is not what its rule gives, also after rounding."""
        for name, row in self.rows.items():
            printed, exact = row.get(Number(AVERAGE)), average(_scores(row), rule)
            if printed is not None and exact is not None and abs(printed - exact) > ROUNDED:
                yield name, printed, exact


def average(scores: Mapping[Number, float], rule: str) -> float | None:
    """The average of a row. None if it has no scores.

    Args:
        rule: ``task_means``: the mean over tasks of the mean of each task's metrics; ``all_numbers``: the mean of all.
    """
    by_task: dict[str, list[float]] = {}
    for number, value in scores.items():
        by_task.setdefault(number.task, []).append(value)
    if not by_task:
        return None
    if rule == "task_means":
        return mean(mean(values) for values in by_task.values())
    return mean(value for values in by_task.values() for value in values)


def _scores(row: Mapping[Number, float]) -> dict[Number, float]:
    return {number: value for number, value in row.items() if number.task != AVERAGE}


def read_published(names: Published) -> PublishedTable:
    """Reads the table that a study names.

    Raises:
        UserError: the file cannot be read, or has no such table.
    """
    content = read_yaml(find(names.file))
    if not isinstance(content.get(names.table), dict):
        hint = did_you_mean(names.table, content) or f" (known: {', '.join(map(str, content))})"
        raise UserError(f"{names.file}: no table '{names.table}'{hint}")
    table = PublishedTable(content[names.table], f"{names.file}: {names.table}", names)
    for name in (*names.rows.values(), *names.test_rows.values()):
        if name is not None and name not in table.rows:
            raise UserError(f"{names.file}: {names.table}: no row '{name}'{did_you_mean(name, table.rows)}")
    known = [text for number in table.columns for text in _spellings(number)]
    for name in names.columns.values():
        if name not in known:
            raise UserError(f"{names.file}: {names.table}: no column '{name}'{did_you_mean(name, known)}")
    return table


def read_scores(file: Path, header: Any = None) -> PublishedTable:
    """Reads scores that a test server has returned: row → column → value, or a table as in a file of a paper's.

    Args:
        header: the key ``columns`` of the table that they stand beside, where the file has none.

    Raises:
        UserError: the file cannot be read, or is something else.
    """
    content = read_yaml(file)
    return PublishedTable({"columns": header, **(content if "rows" in content else {"rows": content})}, str(file))


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if it cannot be read, or holds something else."""
    content = read_yaml_file(file, yaml.safe_load)
    if not isinstance(content, dict):
        raise UserError(f"{file}: write a mapping")
    return content


def _spellings(number: Number) -> tuple[str, ...]:
    return (number.task, str(number), f"{number.task}.{number.metric}")


def _row(columns: Any, row: Any, location: str) -> dict[Number, float]:
    """The numbers of a row by column."""
    names = list(columns) if columns else []
    if isinstance(row, list):
        if len(row) != len(names):
            raise UserError(f"{location}: {len(row)} numbers for {len(names)} columns")
        row = dict(zip(names, row, strict=True))
    if not isinstance(row, dict):
        raise UserError(f"{location}: write a list of numbers, or a mapping from columns to numbers")
    found: dict[Number, Any] = {}
    for task, value in row.items():
        metrics = columns.get(task) if isinstance(columns, dict) else None
        if isinstance(value, list):
            given = metrics if isinstance(metrics, list) else []
            if len(given) != len(value):
                raise UserError(f"{location}.{task}: {len(value)} numbers for {len(given)} metrics")
            found |= {Number(str(task), metric): part for metric, part in zip(given, value, strict=True)}
        else:
            if isinstance(metrics, list) and len(metrics) != 1:
                raise UserError(f"{location}.{task}: 1 number for {len(metrics)} metrics; write a list")
            found[Number(str(task), metrics[0] if isinstance(metrics, list) else metrics)] = value
    for number, value in found.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError(f"{location}.{number}: {value!r} is no number; write null where none is printed")
    return {number: float(value) for number, value in found.items() if value is not None}
