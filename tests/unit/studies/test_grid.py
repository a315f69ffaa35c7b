"""The cells of a study and the configurations of their runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from data_utils.errors import UserError
from mt_dnn.studies.choice import wanted_runs
from tests.study_files import grid_of

LR = {"optimizer.lr": [0.001, 0.01]}


def labels(grid: Any) -> list[str]:
    return [str(cell) for cell in grid.cells]


def test_cells_are_all_combinations_without_those_left_out(workspace: Path) -> None:
    axes = {"task": ["negated", ["same", "overlap"]], **LR}
    grid = grid_of(workspace, axes=axes, leave_out=[{"task": "same+overlap", "optimizer.lr": 0.01}])
    assert labels(grid) == [
        "task=negated, optimizer.lr=0.001",
        "task=negated, optimizer.lr=0.01",
        "task=same+overlap, optimizer.lr=0.001",
    ]
    assert grid.run(grid.cells[2], 3).given.tasks == ("same", "overlap")
    assert grid.run(grid.cells[2], 3).given.seed == 3
    with pytest.raises(UserError, match="two modes: leave_out leaves no cell"):
        grid_of(workspace, axes=axes, leave_out=[{"optimizer.lr": [0.001, 0.01]}])


def test_settings_apply_in_order_settings_axes_cells_overrides(workspace: Path) -> None:
    changes = {
        "settings": {"tasks": ["negated"], "optimizer.lr": 1.0, "train.epochs": 1, "train.batch_size": 4},
        "axes": {"method": {"plain": {"train.epochs": 2}, "more": {"train.epochs": 3, "train.batch_size": 5}}, **LR},
        "cells": [{"when": {"method": "more", "optimizer.lr": 0.01}, "set": {"train.epochs": 4}}],
    }
    grid = grid_of(workspace, "train.batch_size=6", **changes)
    found = [(run.optimizer.lr, run.train.epochs) for run in (grid.run(cell, 1).given for cell in grid.cells)]
    assert found == [(0.001, 2), (0.01, 2), (0.001, 3), (0.01, 4)]
    assert {grid.run(cell, 1).given.train.batch_size for cell in grid.cells} == {6}


def test_a_preset_comes_before_the_keys_that_change_it(workspace: Path) -> None:
    """A key that is set first and comes again with the preset moves behind it, so that the preset does not win."""
    grid = grid_of(
        workspace,
        settings={"tasks": ["negated"]},
        axes={"method": {"rdrop": {"adversary": "preset:rdrop/paper", "adversary.weight": 3}}, "strength": {"4": {}}},
        cells=[{"when": {"strength": "4"}, "set": {"adversary.weight": 4}}],
    )
    adversary: Any = grid.run(grid.cells[0], 1).given.adversary
    assert (adversary.mode, adversary.weight) == ("rdrop", 4)


def test_a_wrong_setting_names_its_cell(workspace: Path) -> None:
    grid = grid_of(workspace, axes={"optimiser.lr": [0.001]})
    with pytest.raises(UserError, match=r"^cell optimiser.lr=0.001: override 'optimiser.lr': unknown key"):
        grid.run(grid.cells[0], 1)


def test_cells_that_differ_in_the_selected_axes_alone_compete(workspace: Path) -> None:
    axes = {"method": {"plain": {}, "more": {"train.epochs": 2}}, **LR}
    select = {"over": ["optimizer.lr"], "seeds": [7, 8], "settings": {"data.max_rows": 20}, "share": 0.25}
    grid = grid_of(workspace, axes=axes, select=select, seeds=2)
    assert [[cell.labels["optimizer.lr"] for cell in group] for group in grid.groups] == [["0.001", "0.01"]] * 2
    deciding = grid.deciding()
    assert [run.seed for run in deciding] == [7] * 4 + [8] * 4
    assert {(run.given.data.max_rows, run.given.data.carve) for run in deciding} == {(20, 0.25)}
    final = grid.run(grid.cells[0], 1).given
    assert (final.data.max_rows, final.data.carve) == (None, 0.25), "settings of deciding runs are theirs alone"
    dev = grid_of(workspace, axes=axes, select={**select, "split": "dev"})
    assert dev.deciding()[0].given.data.carve is None


@pytest.mark.parametrize("text", ["seed=4", "name=x", "output=x"])
def test_what_a_sweep_sets_itself_is_no_override(workspace: Path, text: str) -> None:
    with pytest.raises(UserError, match=rf"^override '{text}': the s"):
        grid_of(workspace, text)


def test_a_value_that_is_made_of_the_seed_changes_with_it(workspace: Path) -> None:
    grid = grid_of(workspace, "data.max_rows=1${seed}")
    assert [grid.run(grid.cells[0], seed).given.data.max_rows for seed in (1, 5)] == [11, 15]


def test_runs_are_planned_without_reading_a_file_again(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading YAML is slow: for a study of 1,000 runs it took longer than a small run."""
    read: list[str] = []
    for name in ("load", "to_container"):

        def counted(real: Any, *given: Any, **options: Any) -> Any:
            read.append(real.__name__)
            return real(*given, **options)

        monkeypatch.setattr(OmegaConf, name, partial(counted, getattr(OmegaConf, name)))
    axes = {"adversary.mode": ["none", "vat"], "optimizer.lr": [0.1 + k for k in range(20)]}
    grid = grid_of(workspace, axes=axes, seeds=25)
    del read[:]
    assert len(wanted_runs(grid, {})) == 1000
    assert len(read) < 60, "the run file, and each setting once"
