"""What a table derives from the cells of its runs: ratios, averages, numbers of the paper, and comparisons."""

from __future__ import annotations

import statistics as means
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

from mt_dnn.studies.choice import Records
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.layout import Entry
from mt_dnn.studies.published import AVERAGE, Number, average
from mt_dnn.studies.statistics import Comparison, holm, over_seeds
from mt_dnn.studies.tables import (
    PUBLISHED,
    RATIO,
    Position,
    Table,
    TableCell,
    known,
    plain_table,
    result_of,
    score_at,
    value_of,
)

SPREADS = 2.0  # so many standard deviations plain training has to be above a constant where an effect can show
ExampleTest = Callable[[Table, Position], Comparison | None]


def make_table(grid: Grid, records: Records, example_test: ExampleTest | None = None) -> Table:
    """The table of a study from the records of its runs. Neither data nor weights are read.

    Args:
        records: by settings, see ``by_settings``.
        example_test: compares a cell with its reference over examples; None: only over seeds.

    Raises:
        UserError: ``show`` or ``published`` names something that does not exist.
    """
    table = plain_table(grid, records)
    if grid.study.show.values == RATIO:
        table = replace(table, cells={position: _ratio(table, position) for position in table.cells})
    table = _with(table, dict(_further_cells(table)))
    table = _with(table, dict(_average_cells(table)))
    table = _with_published(table)
    table = _with(table, {position: _with_effect(table, position) for position in table.cells})
    table = _with(table, dict(_averages_without_effect(table)))
    return _compared(table, example_test)


def _with(table: Table, cells: dict[Position, TableCell]) -> Table:
    return replace(table, cells={**table.cells, **cells})


def _ratio(table: Table, position: Position) -> TableCell:
    """A cell with times, as ratios to the reference with the same seed."""
    reference, cell = table.reference_cell(position), table.cells[position]
    base = reference.values if reference is not None else {}
    return replace(cell, values={seed: value / base[seed] for seed, value in cell.values.items() if seed in base})


def _further_cells(table: Table) -> Iterator[tuple[Position, TableCell]]:
    """The cells of further columns. A value is the mean over the runs of the row with the same seed."""
    for i, j in product(range(len(table.rows)), range(len(table.columns))):
        kind = table.columns[j].value
        if kind not in ("", AVERAGE):
            values = {seed: _over_row(table, i, seed, kind) for seed in table.grid.study.seed_list}
            yield (i, j), TableCell(values=known(values), lower_is_better=True)


def _over_row(table: Table, row: int, seed: int, kind: str) -> float | None:
    """The mean of a value over the runs of a row with a seed. A ratio is that of the sums of both rows.

    A run may fill several columns, and its references be several runs. Each run counts once, and only if all its
    references have the value; a reference counts only if all runs have it that it is compared with.
    """
    here = [
        (position, table.cells[position]) for j in range(len(table.columns)) if (position := (row, j)) in table.cells
    ]
    pairs = [
        (_timed(cell, seed, kind), _timed(table.reference_cell(position) if kind == RATIO else cell, seed, kind))
        for position, cell in here
        if cell.group
    ]
    partial = {run for pair in pairs if None in pair for run in pair}
    complete = [pair for pair in pairs if not partial.intersection(pair)]
    of_row, of_reference = ({run[0]: run[1] for pair in complete if (run := pair[i]) is not None} for i in (0, 1))
    if not of_row:
        return None
    return sum(of_row.values()) / sum(of_reference.values()) if kind == RATIO else means.mean(of_row.values())


def _timed(cell: TableCell | None, seed: int, kind: str) -> tuple[str, float] | None:
    """The run of a cell with a seed, and a value of it. None if there is none."""
    record = cell.records.get(seed) if cell is not None else None
    value = value_of(record, kind) if record is not None and "error" not in record else None
    return None if record is None or value is None else (record["run"], float(value))


def _average_cells(table: Table) -> Iterator[tuple[Position, TableCell]]:
    """The cells of the average. A seed has one if it has all scores of the row."""
    rule = table.grid.study.show.average
    for i, j in product(range(len(table.rows)), range(len(table.columns))):
        if table.columns[j].value != AVERAGE:
            continue
        here = {k: table.cells[i, k] for k in table.averaged if (i, k) in table.cells}
        values = {}
        for seed in table.grid.study.seed_list:
            scores = {
                _number(table.columns[k], k): cell.values[seed] for k, cell in here.items() if seed in cell.values
            }
            values[seed] = average(scores, rule) if len(scores) == len(table.averaged) else None
        yield (i, j), TableCell(values=known(values))


def _number(column: Entry, number: int) -> Number:
    """A column of ours as the rules of averages see it: scores of one task belong together."""
    return Number(column.task, str(number))


def _with_published(table: Table) -> Table:
    """The table with the numbers of the paper, and with columns for those that no run of the study has."""
    published = table.published
    if published is None:
        return table
    numbers = {j: published.number(column) for j, column in enumerate(table.columns) if not column.value}
    only = [number for number in published.columns if number not in numbers.values() and number.task != AVERAGE]
    if any(entry.score for entry in table.rows) or not any(map(published.row, table.rows)):  # else ours by name
        only = []
    columns = [*table.columns, *(Entry({}, None, PUBLISHED, str(number)) for number in only)]
    numbers |= dict(enumerate(only, len(table.columns)))
    cells, statistic = dict(table.cells), published.names.statistic if published.names else "mean"
    for (i, row), (j, column) in product(enumerate(table.rows), enumerate(columns)):
        printed = published.row(row)
        value = printed.get(found) if (found := numbers.get(j)) is not None else None
        if column.value == AVERAGE:
            value = _published_average(table, i, numbers)
        if value is not None:
            average_there = printed.get(Number(AVERAGE)) if column.value == AVERAGE and not only else None
            cell = cells.get((i, j), TableCell())
            gap = None if cell.summary is None else getattr(cell.summary, statistic) - value
            cells[i, j] = replace(cell, published=value, printed=average_there, difference=gap)
    return replace(table, columns=columns, cells=cells)


def _published_average(table: Table, row: int, numbers: dict[int, Number | None]) -> float | None:
    """The paper's average over the scores that this table has, recomputed by its rule. None if one is not printed."""
    assert table.published is not None
    printed, scores = table.published.row(table.rows[row]), {}
    for j in table.averaged:
        number = numbers.get(j)
        if number is None or number not in printed:
            return None
        scores[_number(table.columns[j], j)] = printed[number]
    return average(scores, table.grid.study.show.average)


def _with_effect(table: Table, position: Position) -> TableCell:
    """A cell that knows whether plain training beats the best constant there, by SPREADS standard deviations."""
    cell, reference = table.cells[position], table.reference_cell(position)
    if reference is None or score_at(*table.entries(position)) is None:
        return cell
    above = reference.above_constant
    if above is None or reference.summary is None or reference.summary.sd is None:
        return cell
    return replace(cell, shows_effect=above >= SPREADS * reference.summary.sd and above != 0)


def _averages_without_effect(table: Table) -> Iterator[tuple[Position, TableCell]]:
    """The averages of rows where no score can show an effect: they cannot show one either."""
    for (row, column), cell in table.cells.items():
        if table.columns[column].value == AVERAGE:
            scores = [here for (i, j), here in table.cells.items() if i == row and table.columns[j].score is not None]
            if scores and all(here.shows_effect is False for here in scores):
                yield (row, column), replace(cell, shows_effect=False)


def _compared(table: Table, example_test: ExampleTest | None) -> Table:
    """The table with tests against the reference. P-values are corrected over all cells that are compared."""
    cells = dict(table.cells)
    for position, cell in sorted(table.cells.items(), key=lambda item: item[0][::-1]):  # column by column
        reference = table.reference_cell(position)
        if reference is None or table.is_reference(position) or cell.shows_effect is False:
            continue
        if (
            not table.is_tested(position)
            or table.grid.study.show.values != "scores"
            or table.columns[position[1]].value not in ("", AVERAGE)
        ):
            continue
        base = reference.values
        paired = [seed for seed in cell.values if seed in base]
        if paired:
            step = _step(table, position)
            test = over_seeds([cell.values[seed] for seed in paired], [base[seed] for seed in paired], step=step)
            cells[position] = replace(
                cell, seeds=test, examples=example_test(table, position) if example_test else None
            )
    for position, p in _corrected({position: cell.seeds for position, cell in cells.items()}):
        cells[position] = replace(cells[position], holm_seeds=p)
    for position, p in _corrected({position: cell.examples for position, cell in cells.items()}):
        cells[position] = replace(cells[position], holm_examples=p)
    return replace(table, cells=cells)


def _step(table: Table, position: Position) -> float:
    """How many points one example is worth in a score of a split: 100 / rows.

    It is 0 for averages, and where lower is better, since such scores are not in points.
    """
    cell, score = table.cells[position], score_at(*table.entries(position))
    if score is None or cell.lower_is_better:
        return 0.0
    entries = [result_of(record, score) for record in cell.records.values() if "error" not in record]
    rows = [entry["rows"] for entry in entries if entry is not None and entry.get("rows")]
    return 100 / min(rows) if rows else 0.0


def _corrected(tests: dict[Position, Comparison | None]) -> Iterator[tuple[Position, float]]:
    """The corrected p-values of the tests that have one."""
    p_values = {position: test.p for position, test in tests.items() if test is not None and test.p is not None}
    yield from zip(p_values, holm(list(p_values.values())), strict=True)
