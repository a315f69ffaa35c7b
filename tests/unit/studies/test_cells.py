"""Which cell of a study starts from which, and what its runs are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.studies.choice import wanted_runs
from mt_dnn.studies.sweep import Sweep
from tests.study_files import grid_of

BOTH = "negated+same"
AXES: dict[str, Any] = {
    "task": ["negated", "same", ["negated", "same"]],
    "training": {
        "alone": {},
        "together": {},
        "refined": {"train.init_from": {"task": BOTH, "training": "together"}, "train.init_heads": True},
    },
}
LEFT_OUT = [{"training": "together", "task": ["negated", "same"]}, {"training": ["alone", "refined"], "task": BOTH}]
SETTINGS = {"train.epochs": 1}


def refined(workspace: Path, *overrides: str, **changes: Any) -> Any:
    return grid_of(workspace, *overrides, settings=SETTINGS, axes=AXES, leave_out=LEFT_OUT, **changes)


def test_a_cell_starts_from_another_with_the_same_seed(workspace: Path) -> None:
    grid = refined(workspace, seeds=2)
    by_label = {(cell.labels["task"], cell.labels["training"]): cell for cell in grid.cells}
    run = grid.run(by_label["negated", "refined"], 2)
    assert run.source is grid.run(by_label[BOTH, "together"], 2)
    assert grid.run(by_label["negated", "alone"], 2).source is None
    config = run.config(workspace / "runs")
    assert config.train.init_from == workspace / "runs" / run.source.name and config.train.init_heads


def test_sources_are_planned_first_and_once(workspace: Path) -> None:
    runs = wanted_runs(refined(workspace), {})
    assert len(runs) == 5
    for run in runs:
        assert run.source is None or runs.index(run.source) < runs.index(run)


def test_what_the_source_computes_is_part_of_the_id_and_its_folder_is_not(workspace: Path) -> None:
    def ids(*overrides: str) -> tuple[str, str]:
        grid = refined(workspace, *overrides)
        run = grid.run(next(cell for cell in grid.cells if cell.labels["training"] == "refined"), 1)
        located = run.located(workspace / overrides[-1] if overrides else workspace)
        assert (located.settings_id, located.run_id, located.name) == (run.settings_id, run.identity.run_id, run.name)
        return run.settings_id, run.identity.run_id

    before = ids()
    assert ids("device=cpu") == before
    rows = workspace / "data" / "same_train.tsv"  # which the source alone reads
    rows.write_text(rows.read_text().replace("cat", "dog"))
    assert ids()[0] == before[0] and ids()[1] != before[1]
    grid = refined(workspace, cells=[{"when": {"training": "together"}, "set": {"optimizer.lr": 0.5}}])
    run = grid.run(next(cell for cell in grid.cells if cell.labels["training"] == "refined"), 1)
    assert run.settings_id != before[0]


def test_a_deciding_run_starts_from_a_run_with_its_own_settings(workspace: Path) -> None:
    axes = {**AXES, "optimizer.lr": [0.001, 0.01]}
    select = {"over": ["optimizer.lr"], "share": 0.25, "settings": {"data.max_rows": 20}}
    grid = grid_of(workspace, settings=SETTINGS, axes=axes, leave_out=LEFT_OUT, select=select)
    pairs = [(run, run.source) for run in grid.deciding() if run.source is not None]
    assert {(source.given.data.carve, source.given.data.max_rows) for _, source in pairs} == {(0.25, 20)}
    assert all(source.cell.labels["optimizer.lr"] == run.cell.labels["optimizer.lr"] for run, source in pairs)
    final = grid.run(pairs[0][0].cell, 1).source
    assert final is not None and final.given.data.max_rows is None


def test_an_override_replaces_the_source(workspace: Path) -> None:
    grid = refined(workspace, f"train.init_from={workspace}")
    run = next(grid.run(cell, 1) for cell in grid.cells if cell.labels["training"] == "refined")
    assert run.source is None and run.given.train.init_from == workspace


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"tasks": BOTH}, r"train.init_from: no axis 'tasks', did you mean 'task'\?; axes: task, training"),
        ({"training": "together"}, "train.init_from: the study has no cell task=negated, training=together; name"),
        ({"training": "refined"}, "train.init_from: leads in a circle to task=negated, training=refined; let"),
    ],
)
def test_a_start_that_does_not_exist_is_named(workspace: Path, wanted: dict[str, str], message: str) -> None:
    axes = {**AXES, "training": {**AXES["training"], "refined": {"train.init_from": wanted}}}
    with pytest.raises(UserError, match=f"^cell task=negated, training=refined: {message}"):
        grid_of(workspace, settings=SETTINGS, axes=axes, leave_out=LEFT_OUT)


def test_a_search_says_that_it_makes_no_other_cell(workspace: Path) -> None:
    grid = refined(workspace, search={"keys": {"optimizer.lr": [0.1]}, "trials": 1})
    cell = next(cell for cell in grid.cells if cell.labels["training"] == "refined")
    with pytest.raises(UserError, match=r"train.init_from: a search cannot make another cell first"):
        grid.trial(cell, {})


def test_a_cell_cannot_start_from_one_with_an_adapter(workspace: Path) -> None:
    """It is said before the first run is made, not when the runs come that start from it."""
    axes = {"training": {"first": {}, "then": {"train.init_from": {"training": "first"}}}}
    grid = grid_of(workspace, axes=axes, settings={"tasks": ["negated"], "adapter.kind": "lora"})
    with pytest.raises(UserError, match=r"^cell training=then: train.init_from: cell training=first has an adapter"):
        Sweep(grid, workspace / "runs").check()
    only_then = {"training": {"first": {}, "then": {**axes["training"]["then"], "adapter.kind": "lora"}}}
    Sweep(grid_of(workspace, axes=only_then, settings={"tasks": ["negated"]}), workspace / "runs").check()
