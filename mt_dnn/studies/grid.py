"""The runs of the cells of a study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, did_you_mean
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config, read_layers
from mt_dnn.studies.cells import START, Cell, cells_of, sources_of
from mt_dnn.studies.decision import Decision
from mt_dnn.studies.identity import Identity, run_tasks
from mt_dnn.studies.show import Score
from mt_dnn.studies.study import OF_THE_SWEEP, Study

ANOTHER_CELL = Path("another cell")  # what ``train.init_from`` is until it is known which folder that run has


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study: a cell with a seed.

    ``given``: its configuration without a name. ``source``: the run of the study that it starts from.
    """

    cell: Cell
    seed: int
    given: RunConfig
    source: PlannedRun | None = None

    @cached_property
    def identity(self) -> Identity:
        return Identity(self.given, None if self.source is None else self.source.identity)

    @property
    def settings_id(self) -> str:
        return self.identity.settings_id

    @property
    def name(self) -> str:
        """The name of the run and of its folder. It reads rows and weights, so the data have to be there."""
        return self.identity.name

    @property
    def sources(self) -> list[PlannedRun]:
        """The runs that have to be made before it, in this order."""
        return [] if self.source is None else [*self.source.sources, self.source]

    def config(self, folder: Path) -> RunConfig:
        """The configuration of the run, with its name. Its run folder and that of its source are in ``folder``."""
        changes: dict[str, Any] = {"name": self.name, "output": folder / self.name}
        if self.source is not None:
            changes["train"] = self.given.train.model_copy(update={"init_from": folder / self.source.name})
        return self.given.model_copy(update=changes)

    def located(self, folder: Path) -> Identity:
        """What the run computes, with its ``config`` in this folder."""
        return Identity(self.config(folder), self.identity.source)

    def __str__(self) -> str:
        return f"{self.cell}, seed {self.seed}"


class Grid:
    """All cells of a study. ``overrides``: ``key=value`` for all runs, applied last."""

    def __init__(self, study: Study, overrides: Sequence[str] = ()) -> None:
        self.study, self.overrides = study, tuple(overrides)
        self.cells = cells_of(study)
        if not self.cells:
            raise UserError(f"{study.title}: leave_out leaves no cell; shorten it")
        for text in self.overrides:
            if (key := text.partition("=")[0]) in OF_THE_SWEEP:
                raise UserError(f"override '{text}': {OF_THE_SWEEP[key]}")
        self._sources = sources_of(self.cells)

    @cached_property
    def groups(self) -> list[list[Cell]]:
        """The cells that compete with each other. Without ``select``, every cell is a group of its own."""
        over = self.study.select.over if self.study.select else ()
        found: dict[Any, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.without(over), []).append(cell)
        return list(found.values())

    def deciding(self) -> list[PlannedRun]:
        """The runs that decide between the cells of a group. The first seed comes first, in all groups."""
        select = self.study.select
        groups = [group for group in self.groups if len(group) > 1]
        seeds = select.seeds if select else ()
        return [self.deciding_run(cell, seed) for seed in seeds for group in groups for cell in group]

    def deciding_run(self, cell: Cell, seed: int) -> PlannedRun:
        """The run of a cell whose score takes part in the choice of settings. Raises as ``run`` does."""
        select = self.study.select
        run = self._planned(cell, seed, select.settings if select else {})
        if select is not None:
            _check_decision(select, run, "select")
        return run

    def run(self, cell: Cell, seed: int) -> PlannedRun:
        """The run of a cell with a seed.

        Raises:
            UserError: settings are wrong; the message names the cell.
        """
        return self._planned(cell, seed, {})

    def trial(self, cell: Cell, settings: Mapping[str, Any]) -> PlannedRun:
        """The run of a cell with settings that ``search`` tries. Raises as ``run`` does."""
        search = self.study.search
        assert search is not None
        if str(cell) in self._sources:
            raise UserError(f"cell {cell}: {START}: a search cannot make another cell first; name the folder of a run")
        run = PlannedRun(cell, search.seed, self._load(cell, search.seed, {**search.carve, **settings}))
        _check_decision(search, run, "search")
        return run

    def _planned(self, cell: Cell, seed: int, settings: Mapping[str, Any]) -> PlannedRun:
        key = (str(cell), seed, bool(settings))
        if key not in self._runs:
            kind = (str(cell), seed if self._reads_seed else None, bool(settings))
            if kind not in self._loaded:
                self._loaded[kind] = self._load(cell, seed, settings)
            given = self._loaded[kind].model_copy(update={"seed": seed})  # to load it again takes 50 ms
            starts_there = given.train.init_from == ANOTHER_CELL  # else an override says what it starts from
            source = self._planned(self._sources[str(cell)], seed, settings) if starts_there else None
            if source is not None and source.given.adapter.kind != "none":
                raise UserError(f"cell {cell}: {START}: cell {source.cell} has an adapter, and no run starts from one")
            self._runs[key] = PlannedRun(cell, seed, given, source)
        return self._runs[key]

    @cached_property
    def _loaded(self) -> dict[tuple[str, int | None, bool], RunConfig]:
        return {}

    @cached_property
    def _reads_seed(self) -> bool:
        """Whether a value of a run may be made of its seed."""
        try:
            files = [content for _, content in read_layers(self.study.base)]
        except UserError:  # ``load_config`` says it, with the cell
            return False
        if "${output" not in str(files):  # the sweep names the folder
            files = [{key: value for key, value in content.items() if key != "output"} for content in files]
        given = [str(files), *self.overrides, str(self.study.select), *(str(cell.settings) for cell in self.cells)]
        return any("${seed" in text for text in given)

    @cached_property
    def _runs(self) -> dict[tuple[str, int, bool], PlannedRun]:
        return {}

    def _load(self, cell: Cell, seed: int, last: Mapping[str, Any]) -> RunConfig:
        carve = self.study.select.carve if self.study.select else {}
        values = {"evaluation.predictions": {"splits": "labelled"}, **carve, **cell.settings, **last, "seed": seed}
        if str(cell) in self._sources and START not in last:
            values[START] = str(ANOTHER_CELL)
        texts = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        try:
            return load_config(self.study.base, [*texts, *self.overrides])
        except UserError as error:
            raise UserError(f"cell {cell}: {error}") from None


def _check_decision(decision: Decision, run: PlannedRun, key: str) -> None:
    """Raises UserError unless a run has the score that decides."""
    tasks = run_tasks(run.given).trained
    wanted = None if decision.metric is None else Score.parse(decision.metric)
    deciding = [task for name, task in tasks.items() if wanted is None or wanted.task == name]
    if deciding and decision.split == "dev" and not any(task.dev_splits for task in deciding):
        raise UserError(
            f"cell {run.cell}: {key}.split: {' and '.join(task.name for task in deciding)} has no dev split; "
            f"write {key}: {{split: carved}}, which reads rows carved from train"
        )
    if wanted is None:
        return
    if wanted.task not in tasks:
        raise UserError(
            f"cell {run.cell}: {key}.metric: '{wanted.task}' is not trained{did_you_mean(wanted.task, tasks)}; "
            f"trained: {', '.join(tasks)}"
        )
    known = tasks[wanted.task].metrics
    if wanted.metric is not None and wanted.metric not in known:
        raise UserError(
            f"cell {run.cell}: {key}.metric: {wanted.task} has no metric '{wanted.metric}'"
            f"{did_you_mean(wanted.metric, known)}; metrics: {', '.join(known)}"
        )
