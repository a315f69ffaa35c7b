"""The runs of a study and what they cost, as text, before any of them is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_utils.errors import MissingRows
from data_utils.text_table import table
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.studies.choice import chosen
from mt_dnn.studies.cost import Rates, configured, shape_of, work
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.full_size import ASSUMPTIONS, Estimate, estimate
from mt_dnn.studies.grid import PlannedRun
from mt_dnn.studies.layout import unshown
from mt_dnn.studies.records import read_records
from mt_dnn.studies.sweep import Sweep, duration

DONE = ("finished", "failed")
NEW, CUT_OFF, UNDECIDED, WAITS = "missing", "cut off", "waits for a choice", "waits for its start"
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Item:
    """A run of a study. ``cost``: processor hours, an estimate for a GPU, or why there is neither."""

    run: PlannedRun
    state: str
    cost: float | Estimate | str = 0.0

    @property
    def hours(self) -> float:
        """Of a processor, or of a GPU."""
        return self.cost.hours if isinstance(self.cost, Estimate) else self.cost if isinstance(self.cost, float) else 0


class Prices:
    """What runs cost. ``sources``: where their speed is from, ``absent``: why they have no rows, each with the runs."""

    def __init__(self, rates: Rates) -> None:
        self.rates, self.sources, self.absent = rates, Counter[str](), Counter[str]()

    def __call__(self, item: Item) -> Item:
        """The item with its cost."""
        config = item.run.given
        if item.state in DONE:
            return item
        if shape_of(config) is None:
            return Item(item.run, item.state, estimate(config) or f"{NOT_KNOWN}: encoder or rows")
        try:
            characters = work(config)
        except MissingRows as error:
            self.absent[str(error)] += 1
            return Item(item.run, item.state, f"{NOT_KNOWN}: rows are missing")
        rate = self.rates(config)
        self.sources[rate.source] += 1
        return Item(item.run, item.state, characters * rate.seconds / 3600)


def dry_run_text(sweeps: Sequence[Sweep]) -> str:
    """The text for studies with the same folder of runs: runs that are not done, what they cost, and sums.

    Raises:
        UserError: settings are wrong, the table of a study cannot be made, or a probe cannot begin.
    """
    for sweep in sweeps:
        make_table(sweep.grid, {})
    runs = sweeps[0].runs
    records = list(read_records(runs)) if runs.is_dir() else []
    prices = Prices(Rates(configured(records, runs)))
    parts, together = list[str](), dict[str, Item]()
    for sweep in sweeps:
        items = [prices(item) for item in _items(sweep)]
        together |= {item.run.settings_id: item for item in items}
        parts += [*_study_parts(sweep.grid.study.title, items), *unshown(sweep.grid)]
    left = [item for item in together.values() if item.state not in DONE]
    if len(sweeps) > 1:
        parts.append(f"All {len(sweeps)} studies: {len(together)} runs. A run that several have in common counts once")
        parts += [text for text, _ in _in_all(left)]
    parts += [f"Speed of {count} runs: measured, {source}." for source, count in prices.sources.items()]
    parts += [f"Rows of {count} runs are missing: {reason}" for reason, count in prices.absent.items()]
    if any(isinstance(item.cost, Estimate) for item in left):
        parts.append(f"GPU: {ASSUMPTIONS}.")
    return "\n\n".join(parts)


def _study_parts(title: str, items: Sequence[Item]) -> Iterator[str]:
    """What is said of one study."""
    counts = Counter(item.state for item in items)
    yield f"{title}: {len(items)} runs: " + ", ".join(f"{n} {state}" for state, n in counts.items())
    left = [item for item in items if item.state not in DONE]
    if left:
        yield table(("run", "state", "time"), [(str(item.run), item.state, _shown(item.cost)) for item in left])
    for text, priced in _in_all(left):
        yield text
        yield from _by_label(priced)


def _items(sweep: Sweep) -> Iterator[Item]:
    """All runs that are planned, then those that will be planned when settings are chosen."""
    records, grid, seen = sweep.records(), sweep.grid, set[str]()
    missing = {run.settings_id for run in sweep.missing()}
    for run in sweep.planned():
        seen.add(run.settings_id)
        if run.settings_id not in missing:
            yield Item(run, "failed" if "error" in records[run.settings_id] else "finished")
        elif run.source is not None and run.source.settings_id in missing:
            yield Item(run, WAITS)
        else:
            begun = last_checkpoint(run.config(sweep.runs).output) is not None
            yield Item(run, CUT_OFF if begun else NEW)
    for group in grid.groups:
        if chosen(grid, group, records) is None:  # the first cell stands for the one that will be chosen
            for run in (grid.run(group[0], seed) for seed in grid.study.seed_list):
                if run.settings_id not in seen:
                    yield Item(run, UNDECIDED)


def _in_all(items: Sequence[Item]) -> Iterator[tuple[str, list[Item]]]:
    """Yields the time of all runs on processors here, then on GPUs, each with the runs that are counted."""
    for kind, unit in ((float, "processor time"), (Estimate, "GPU time (estimate)")):
        priced = [item for item in items if isinstance(item.cost, kind)]
        if priced:
            yield f"{unit}: {_time(sum(item.hours for item in priced))} in all", priced


def _by_label(items: Sequence[Item]) -> Iterator[str]:
    """The time for each label of each axis."""
    for axis in items[0].run.cell.labels:
        by_label: dict[str, float] = {}
        for item in items:
            label = item.run.cell.labels[axis]
            by_label[label] = by_label.get(label, 0) + item.hours
        if len(by_label) > 1:
            yield f"by {axis}: " + ", ".join(f"{label} {_time(hours)}" for label, hours in by_label.items())


def _shown(cost: float | Estimate | str) -> str:
    if isinstance(cost, Estimate):
        return f"{_time(cost.hours)} of a GPU with {cost.gigabytes:.0f} GB or more"
    return cost if isinstance(cost, str) else _time(cost)


def _time(hours: float) -> str:
    return "under 1 s" if 0 < hours < 1 / 3600 else duration(3600 * hours)
