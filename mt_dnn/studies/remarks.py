"""What has to be said below a table: how it was made, what is missing, and what its numbers cannot say."""

from __future__ import annotations

import json
import statistics as means
from collections import defaultdict
from collections.abc import Iterable, Iterator

from data_utils.set_aside import CARVED
from mt_dnn.runs.notes import FLOOR, over_floor
from mt_dnn.studies.cells import Cell
from mt_dnn.studies.layout import unshown
from mt_dnn.studies.published import AVERAGE
from mt_dnn.studies.records import Record
from mt_dnn.studies.statistics import resamples_for
from mt_dnn.studies.tables import PUBLISHED, Table, result_of, score_at

CANNOT = "cannot show an effect"
FEW_ROWS = 30  # a split with fewer rows is named


def remarks(table: Table, command: str) -> list[str]:
    """The sentences below a table.

    Args:
        command: the command that makes the runs that are missing.
    """
    parts = (
        _meaning(table),
        _encoders(table),
        _choices(table),
        unshown(table.grid),
        _missing(table, command),
        _failed(table),
        _effects(table),
        _constant(table),
        _small_splits(table),
        _at_the_floor(table),
        _same_scores(table),
        _unknown(table),
        _averages(table),
        _origins(table.used()),
    )
    note = [" ".join(table.grid.study.note.split())] if table.grid.study.note else []
    return [*note, *(sentence for part in parts for sentence in part)]


def _meaning(table: Table) -> Iterator[str]:
    seeds = table.grid.study.seed_list
    if len(seeds) > 1:
        listed = f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
        yield f"Cells: mean ± sample standard deviation over {listed}; in brackets how many seeds where it is fewer."
    else:
        yield f"Cells: a single run, seed {seeds[0]}."
    if any(cell.seeds for cell in table.cells.values()):
        yield (
            "Differences are paired by seed, with 95 % intervals (Student's t). *: p < 0.05 after Holm's correction "
            "over all cells compared. Smallest gain: what the cell would have shown alone with a chance of 80 %."
        )
    if any(cell.seeds and cell.seeds.n > 1 and cell.seeds.low is None for cell in table.cells.values()):
        yield "No interval: over the seeds, the difference varies by no more than one example is worth."
    if any(cell.examples for cell in table.cells.values()):
        yield (
            "Over examples: the mean difference over seeds, with the 95 % interval of "
            f"{resamples_for(table.comparisons):,} paired bootstrap samples of the examples, corrected likewise. "
            "This interval is about these models, the one over seeds about the method."
        )


def _encoders(table: Table) -> Iterator[str]:
    rows: dict[str, dict[str, None]] = defaultdict(dict)
    for (row, _), cell in table.cells.items():
        undecided = [table.grid.run(rival, table.grid.study.seed_list[0]) for rival in cell.group if not cell.runs]
        for planned in (*cell.runs.values(), *undecided):
            rows[planned.given.encoder.origin][table.rows[row].name] = None
    if len(rows) == 1:
        yield f"Encoder: {next(iter(rows))}."
    elif rows:
        yield "Encoders: " + "; ".join(f"{name}: {', '.join(of_rows)}" for name, of_rows in rows.items()) + "."


def _choices(table: Table) -> Iterator[str]:
    select = table.grid.study.select
    if select is None:
        return
    share = f"{100 * select.share:g} % of the training rows, carved from them" if select.split == CARVED else "dev"
    seeds = f"seed{'s' if len(select.seeds) > 1 else ''} {', '.join(map(str, select.seeds))}"
    by = f" by {select.metric}" if select.metric else ""
    given = ", ".join(f"{key}={json.dumps(value)}" for key, value in select.settings.items())
    settings = f", with {given}" if given else ""
    yield f"The best of {', '.join(select.over)} was chosen{by} on {share} ({seeds}{settings}): {_chosen(table)}."


def _chosen(table: Table) -> str:
    found: dict[str, Cell | None] = {}
    for cell in table.cells.values():
        if len(cell.group) > 1:
            over = table.grid.study.select.over if table.grid.study.select else ()
            rest = ", ".join(label for _, label in cell.group[0].without(over)) or "all"
            found[rest] = cell.cell
    over = table.grid.study.select.over if table.grid.study.select else ()
    texts = [f"{rest}: {', '.join(cell.labels[axis] for axis in over)}" for rest, cell in found.items() if cell]
    undecided = len(found) - len(texts)
    return "; ".join([*texts, *([f"{undecided} not yet"] if undecided else [])]) or "nothing competes"


def _missing(table: Table, command: str) -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    known: dict[str, list[str]] = defaultdict(list)
    for position, cell in table.cells.items():
        row, column = table.entries(position)
        if cell.group:
            known[row.name].append(column.name)
        if cell.is_missing:
            found[row.name].append(column.name)
    if found:
        listed = "; ".join(
            f"{row}: {'all' if columns == known[row] else ', '.join(columns)}" for row, columns in found.items()
        )
        listed = "all cells" if found == known else listed
        yield f"Missing, or not from all seeds: {listed}. They are made by: {command}"
    only = [column.name for column in table.columns if column.value == PUBLISHED]
    if only:
        yield f"No run of this study has {', '.join(only)}: these columns are the paper's alone."


def _failed(table: Table) -> Iterator[str]:
    failed = {record["run"]: record for cell in table.cells.values() for record in cell.failed}
    for name, record in failed.items():
        yield f"Failed, and in no mean: {name} ({record['error']})."


def _effects(table: Table) -> Iterator[str]:
    columns = {
        table.entries(position)[1].name if table.entries(position)[1].score else table.entries(position)[0].name: None
        for position, cell in table.cells.items()
        if cell.shows_effect is False
    }
    if columns and table.reference:
        yield (
            f"{', '.join(columns)}: {CANNOT}, because {table.reference[1]} does not beat the best constant by two "
            "standard deviations over seeds. No differences are tested there."
        )


def _constant(table: Table) -> Iterator[str]:
    """Cells that are no better than the best constant answer, where the reference is."""
    found: dict[str, list[str]] = defaultdict(list)
    for position, cell in table.cells.items():
        if cell.shows_effect and cell.above_constant is not None and cell.above_constant <= 0:
            score, method = sorted(table.entries(position), key=lambda entry: entry.score is None)
            found[score.name].append(method.name)
    for name, methods in found.items():
        yield f"{name}: {', '.join(methods)} learnt no more than the best constant answer."


def _small_splits(table: Table) -> Iterator[str]:
    """Splits that are shown and have few rows."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for position, cell in table.cells.items():
        score = score_at(*table.entries(position))
        for record in cell.records.values() if score is not None else ():
            entry = result_of(record, score) if score is not None and "error" not in record else None
            if entry is not None and entry.get("rows", FEW_ROWS) < FEW_ROWS:
                found[f"{entry['task']} {entry['split']}"][entry["rows"]] = None
    for split, counts in found.items():
        rows = " or ".join(map(str, sorted(counts)))
        yield f"{split}: {rows} row{'' if rows == '1' else 's'}, too few to compare methods."


def _row_records(table: Table, row: int) -> dict[str, Record]:
    """The finished runs of a row by name."""
    return {
        record["run"]: record
        for (number, _), cell in table.cells.items()
        if number == row
        for record in cell.records.values()
        if "error" not in record
    }


def _at_the_floor(table: Table) -> Iterator[str]:
    """Methods whose regulariser is what dropout alone makes of it."""
    found = {}
    for number, row in enumerate(table.rows):
        by_task: dict[str, list[float]] = defaultdict(list)
        for record in _row_records(table, number).values():
            ratio = over_floor(record.get("figures", {}))
            if ratio is not None:
                by_task["+".join(record["tasks"])].append(ratio)
        ratios = {task: means.mean(values) for task, values in by_task.items()}
        if ratios and all(ratio <= FLOOR for ratio in ratios.values()):
            found[row.name] = ", ".join(f"{task} {ratio:.2f}" for task, ratio in ratios.items())
    if found:
        listed = "; ".join(f"{name} ({ratios})" for name, ratios in found.items())
        coincide = f" So {' and '.join(found)} coincide at these settings." if len(found) > 1 else ""
        yield (
            f"At the dropout floor: {listed}. In brackets: the regulariser over what dropout alone makes of it. The "
            f"perturbation adds nothing to it there.{coincide}"
        )


def _same_scores(table: Table) -> Iterator[str]:
    """Rows with the same values in all columns and seeds."""
    rows: dict[str, list[str]] = defaultdict(list)
    for number, row in enumerate(table.rows):
        cells = {j: cell.values for (i, j), cell in table.cells.items() if i == number and cell.cell and cell.values}
        if cells:
            rows[repr(sorted(cells.items()))].append(row.name)
    for names in rows.values():
        if len(names) > 1:
            yield f"{' and '.join(names)} have the same scores in every run."


def _unknown(table: Table) -> Iterator[str]:
    """Figures that no run has, such as misspelled ones, and splits that no run has scored."""
    for task, split in table.unscored:
        named = f"{task} {split}" if split else task
        yield f"No run has scores of {named}. If its rows were missing, add them and make the runs again."
    for j, column in enumerate(table.columns):
        cells = [cell for (_, number), cell in table.cells.items() if number == j]
        if column.value not in ("", AVERAGE, PUBLISHED) and table.used() and not any(cell.values for cell in cells):
            yield f"No run has the figure {column.value}."


def _averages(table: Table) -> Iterator[str]:
    rule = table.grid.study.show.average
    if rule == "none":
        return
    words = {"task_means": "over tasks of the mean of each task's metrics", "all_numbers": "of all scores"}
    yield f"Average: the mean {words[rule]}."
    if table.published is not None:
        rows = {name: None for row in table.rows if (name := table.published.row_name(row)) is not None}
        only = any(column.value == PUBLISHED for column in table.columns)
        printed = [
            f"{name} {value:g}" for name in rows if only and (value := table.published.average(name)) is not None
        ]
        if printed:
            yield f"The paper's averages are over the columns of this study. Over all it prints: {', '.join(printed)}."
        strange = [f"{row} {printed:g} ({exact:.2f})" for row, printed, exact in table.published.strange_averages(rule)]
        if strange:
            yield f"Averages of the paper that are not what this rule gives (in brackets): {', '.join(strange)}."


def _origins(records: Iterable[Record]) -> Iterator[str]:
    """Where the runs come from, and whether they come from different versions, rows or weights."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
        machine = record.get("machine", {})
        threads = (
            f", {machine['threads']} thread{'s' if machine['threads'] > 1 else ''}" if "threads" in machine else ""
        )
        found["versions"][versions] = None
        found["machines"][f"{machine.get('processor', 'unknown')}{threads}"] = None
        found["commits"][record.get("commit") or "unknown"] = None
        for kind in ("data", "encoder"):
            for file, digest in record.get(kind, {}).items():
                name = record["settings"].get("encoder", {}).get("name", "") if kind == "encoder" else ""
                found[f"{kind}:{name}/{file}"][digest] = None
    for kind in ("commits", "versions", "machines"):
        if found[kind]:
            warning = "Several " if len(found[kind]) > 1 else ""
            yield f"{warning}{kind if warning else kind.capitalize()}: {'; '.join(found[kind])}."
    for kind, digests in found.items():
        if ":" in kind and len(digests) > 1:
            source, _, name = kind.partition(":")
            what = "rows" if source == "data" else "weights"
            yield f"Runs have read different {what}: {name.strip('/')} ({', '.join(digests)})."
