"""A table as text: sheets with a header and rows of cells, which every format writes alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from mt_dnn.studies.published import AVERAGE, ROUNDED, PublishedTable
from mt_dnn.studies.remarks import CANNOT
from mt_dnn.studies.show import Score
from mt_dnn.studies.statistics import Comparison
from mt_dnn.studies.tables import PUBLISHED, RATIO, TIMES, Position, Table, TableCell, score_at

SIGNIFICANT = 0.05
COMPARED = {"mean": "", "median": " of medians", "best": " of the best"}
NOTHING, MISSING = "—", "missing"


@dataclass(frozen=True)
class SheetRow:
    """``cells``: the texts after the name. ``strong``: numbers of the cells that are the best of their column.

    ``kind``: ours, published, difference, smallest or examples. Only rows of the kind ours begin a row of the table.
    """

    name: str
    cells: Sequence[str]
    kind: str = "ours"
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Sheet:
    """A table of texts. ``corner``: the name of the first column. ``header``: those of the others."""

    title: str
    header: Sequence[str]
    rows: Sequence[SheetRow] = field(default_factory=list)
    corner: str = ""


def sheets(table: Table) -> list[Sheet]:
    """The sheets of a table: scores; differences to the reference; median and best where there are several seeds."""
    found = [_scores(table)]
    if any(cell.seeds for cell in table.cells.values()) or any(
        cell.shows_effect is False for cell in table.cells.values()
    ):
        found.append(_differences(table))
    if any(len(cell.values) > 1 for cell in table.cells.values()):
        found.append(_spread(table))
    return found


def _scores(table: Table) -> Sheet:
    rows, names = [], table.published and table.published.names
    of_what = COMPARED[names.statistic] if names else ""
    best = _best(table)
    for i, row in enumerate(table.rows):
        cells = [table.cells.get((i, j), TableCell()) for j in range(len(table.columns))]
        texts = [score_text(table, (i, j)) for j in range(len(cells))]
        rows.append(SheetRow(row.name, texts, strong=frozenset(j for j in range(len(cells)) if (i, j) in best)))
        if any(cell.published is not None for cell in cells):
            rows.append(SheetRow("published", [published_text(table, (i, j)) for j in range(len(cells))], "published"))
        if any(cell.difference is not None for cell in cells):
            texts = [
                NOTHING if cell.difference is None else signed(table, (i, j), cell.difference)
                for j, cell in enumerate(cells)
            ]
            rows.append(SheetRow(f"difference{of_what}", texts, "difference"))
    return Sheet(table.grid.study.title, [column.name for column in table.columns], rows)


def score_text(table: Table, position: Position) -> str:
    """The text of a cell: its mean and standard deviation, or why it has none."""
    cell = table.cells.get(position)
    if table.columns[position[1]].value == PUBLISHED:
        return MISSING
    if cell is None:
        return NOTHING
    found = cell.summary
    failed = f", {len(cell.failed)} failed" if cell.failed else ""
    if found is None:
        if cell.failed:
            return f"failed ({len(cell.failed)})"
        score = score_at(*table.entries(position))
        unscored = score is not None and (score.task, score.split) in table.unscored
        return MISSING if cell.is_missing or unscored else NOTHING
    text = number_text(table, position, found.mean)
    if found.sd is not None:
        text += f" ± {number_text(table, position, found.sd)}"
    fewer = f"{found.n}{failed}" if found.n < len(table.grid.study.seed_list) else ""
    return f"{text} ({fewer})" if fewer else text


def number_text(table: Table, position: Position, value: float) -> str:
    """A number with the digits that its kind has: scores and times one decimal, ratios two, figures two digits.

    Scores that are better if lower, such as distances, have no scale: their mean has three digits.
    """
    kind, shown = table.columns[position[1]].value, table.grid.study.show.values
    kind = shown if kind in ("", AVERAGE) else kind
    if kind in ("scores", *TIMES):
        return f"{value:.{_decimals(table.cells.get(position)) if kind == 'scores' else 1}f}"
    return f"{value:.2f}" if kind == RATIO else f"{value:.2g}"


def _decimals(cell: TableCell | None) -> int:
    if cell is None or not cell.lower_is_better or cell.summary is None:
        return 1
    return max(0, 2 - math.floor(math.log10(abs(cell.summary.mean)))) if cell.summary.mean else 3


def published_text(table: Table, position: Position) -> str:
    """The published number. Of an average also the recomputed one, if the paper prints another."""
    cell = table.cells.get(position, TableCell())
    if cell.published is None:
        return NOTHING
    if cell.printed is not None and abs(cell.printed - cell.published) > ROUNDED:
        return f"{_plain(cell.printed)} ({cell.published:.2f})"
    if table.columns[position[1]].value == AVERAGE:
        return number_text(table, position, cell.published if cell.printed is None else cell.printed)
    return _plain(cell.published)


def _best(table: Table) -> set[Position]:
    """Where the best means of columns stand. Times and figures have no best."""
    rivals: dict[tuple[int, Score | None], list[tuple[Position, float]]] = {}
    for position, cell in table.cells.items():
        row, column = table.entries(position)
        if table.grid.study.show.values == "scores" and column.value in ("", AVERAGE) and cell.summary is not None:
            better = -cell.summary.mean if cell.lower_is_better else cell.summary.mean
            rivals.setdefault((position[1], row.score), []).append((position, better))
    best = set[Position]()
    for found in rivals.values():
        highest = max(value for _, value in found)
        best.update(position for position, value in found if len(found) > 1 and value >= highest)
    return best


def _differences(table: Table) -> Sheet:
    assert table.reference is not None
    found = [
        j
        for j, column in enumerate(table.columns)
        if column.value in ("", AVERAGE) and any(table.reference_of((i, j)) for i in range(len(table.rows)))
    ]
    tested = [j for j in found if any(table.is_tested((i, j)) for i in range(len(table.rows)))]
    rows: list[SheetRow] = []
    for i, row in enumerate(table.rows):
        if not all(table.is_reference((i, j)) for j in tested):
            rows += _difference_rows(table, row.name, [(i, j) for j in tested])
    return Sheet(f"Minus {table.reference[1]}", [table.columns[j].name for j in tested], rows)


def _difference_rows(table: Table, name: str, positions: Sequence[Position]) -> Iterator[SheetRow]:
    cells = [(position, table.cells.get(position, TableCell())) for position in positions]
    if any(cell.seeds or cell.shows_effect is False for _, cell in cells):
        texts = [_difference_text(table, here, cell.seeds, cell.holm_seeds) for here, cell in cells]
        yield SheetRow(name, texts)
    smallest = [cell.seeds.detectable if cell.seeds else None for _, cell in cells]
    if any(value is not None for value in smallest):
        texts = [
            NOTHING if value is None else number_text(table, position, value)
            for value, position in zip(smallest, positions, strict=True)
        ]
        yield SheetRow("smallest gain", texts, "smallest")
    if any(cell.examples for _, cell in cells):
        texts = [_difference_text(table, here, cell.examples, cell.holm_examples) for here, cell in cells]
        yield SheetRow("over examples", texts, "examples")


def _difference_text(table: Table, position: Position, test: Comparison | None, corrected: float | None) -> str:
    if table.cells.get(position, TableCell()).shows_effect is False:
        return CANNOT
    if test is None:
        return NOTHING
    star = "*" if corrected is not None and corrected < SIGNIFICANT else ""
    difference, *ends = (
        "" if value is None else signed(table, position, value) for value in (test.difference, test.low, test.high)
    )
    return f"{difference}{f' [{ends[0]}, {ends[1]}]' if all(ends) else ''}{star}"


def signed(table: Table, position: Position, value: float) -> str:
    """A difference with its sign, and with the digits of its kind. What is rounded to 0 has a plus."""
    text = number_text(table, position, abs(value))
    return f"{'−' if value < 0 and float(text) else '+'}{text}"


def _spread(table: Table) -> Sheet:
    """Median and best of each cell."""
    shown = [j for j, column in enumerate(table.columns) if column.value in ("", AVERAGE)]
    rows = []
    for i, row in enumerate(table.rows):
        texts = []
        for j in shown:
            found = table.cells.get((i, j), TableCell()).summary
            texts.append(
                NOTHING
                if found is None
                else f"{number_text(table, (i, j), found.median)} / {number_text(table, (i, j), found.best)}"
            )
        rows.append(SheetRow(row.name, texts))
    return Sheet("Median / best seed", [table.columns[j].name for j in shown], rows)


def scores_sheet(scores: PublishedTable, published: PublishedTable | None, title: str) -> Sheet:
    """Scores that a test server has returned, beside rows of the paper, see ``Published.test_rows``."""
    rows = []
    of_paper = published.names.test_rows if published is not None and published.names is not None else {}
    for name, row in scores.rows.items():
        rows.append(SheetRow(name, [_plain(row.get(number)) for number in scores.columns]))
        printed = published.rows.get(of_paper.get(name, name), {}) if published is not None else {}
        if printed:
            rows.append(SheetRow("published", [_plain(printed.get(number)) for number in scores.columns], "published"))
    return Sheet(title, [str(number) for number in scores.columns], rows)


def _plain(value: float | None) -> str:
    """A printed number: all its digits, and at least one decimal."""
    return NOTHING if value is None else f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def positions(table: Table) -> list[Position]:
    """All positions with a cell, row by row."""
    return [
        position for position in product(range(len(table.rows)), range(len(table.columns))) if position in table.cells
    ]
