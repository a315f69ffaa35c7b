"""Weights that stay for runs which start from them, and no longer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.studies.attempts import SPENT
from mt_dnn.studies.cost import Rate, Rates
from mt_dnn.studies.dry_run import dry_run_text
from mt_dnn.studies.grid import Grid, PlannedRun
from mt_dnn.studies.make import make_run
from mt_dnn.studies.records import RECORD, read_record
from mt_dnn.studies.report import records_of
from mt_dnn.studies.sweep import Sweep
from mt_dnn.studies.weights import AWAITED, awaited, release
from tests.study_files import grid_of

AXES = {"training": {"first": {}, "then": {"train.init_from": {"training": "first"}, "train.epochs": 2}}}


def made(grid: Grid, runs: Path) -> list[str]:
    """Sweeps, and returns the names of the runs that were made or gone on with, and what was said of failures."""
    said: list[str] = []
    assert Sweep(grid, runs, alone=False)(said.append) == 0
    return [line.split(": ")[0] for line in said]


def pair(workspace: Path, *overrides: str, **changes: object) -> tuple[Grid, PlannedRun, PlannedRun]:
    grid = grid_of(workspace, *overrides, **{"axes": AXES, **changes})
    first, then = (grid.run(cell, 1) for cell in grid.cells)
    return grid, first, then


def folder(workspace: Path, run: PlannedRun) -> Path:
    return workspace / "runs" / run.name


def logged(folder: Path) -> list[float]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "train"]


def test_a_run_starts_from_the_weights_of_another_which_then_go(workspace: Path) -> None:
    grid, first, then = pair(workspace)
    assert made(grid, workspace / "runs") == [first.name, then.name]
    record = read_record(folder(workspace, then))
    assert record is not None and record["encoder"]["init_from"] == first.identity.run_id
    assert record["settings"]["train"]["init_from"] == f"run {first.settings_id}"
    assert (record["settings_id"], record["id"]) == (then.settings_id, then.identity.run_id)
    assert last_checkpoint(folder(workspace, first)) is None and awaited(folder(workspace, first)) is None
    assert made(grid, workspace / "runs") == []
    elsewhere = workspace / "elsewhere"
    make_run(first.located(elsewhere), "model", print, label="first")
    for name, start in (("started", [f"train.init_from={elsewhere / first.name}"]), ("plain", [])):
        given = ["tasks=[negated]", "train.epochs=2", "log.every_steps=3", "evaluation.predictions={splits: labelled}"]
        Run(load_config(workspace / "run.yml", [*given, *start, f"output={elsewhere / name}"]))()
    losses = logged(folder(workspace, then))
    assert losses == logged(elsewhere / "started") != logged(elsewhere / "plain") and len(losses) == 4
    known = records_of(grid, [record, read_record(folder(workspace, first)) or {}])
    assert set(known) == {first.settings_id, then.settings_id}


def test_weights_that_are_gone_are_made_again_for_a_run_that_is_missing(workspace: Path) -> None:
    """Another study has made the first run, and kept nothing."""
    grid, first, then = pair(workspace)
    made(grid_of(workspace, axes={"training": {"first": {}}}), workspace / "runs")
    assert last_checkpoint(folder(workspace, first)) is None
    assert [str(run) for run in Sweep(grid, workspace / "runs").missing()] == [str(first), str(then)]
    assert Sweep(grid, workspace / "runs").progress() == "0 of 2 runs done"
    assert made(grid, workspace / "runs") == [first.name, then.name]
    assert last_checkpoint(folder(workspace, first)) is None


def test_in_a_chain_the_weights_of_every_source_are_made_again(workspace: Path) -> None:
    last = {"train.init_from": {"training": "then"}, "optimizer.lr": 0.5}
    grid = grid_of(workspace, axes={"training": {**AXES["training"], "last": last}})
    runs = [grid.run(cell, 1) for cell in grid.cells]
    assert made(grid, workspace / "runs") == [run.name for run in runs]
    (folder(workspace, runs[2]) / RECORD).unlink()
    assert Sweep(grid, workspace / "runs").missing() == runs
    assert made(grid, workspace / "runs") == [run.name for run in runs]
    assert all(last_checkpoint(folder(workspace, run)) is None for run in runs)


def test_weights_stay_while_a_run_of_any_study_waits(workspace: Path) -> None:
    grid, first, _ = pair(workspace)
    two = {"training": {**AXES["training"], "other": {"train.init_from": {"training": "first"}, "optimizer.lr": 0.5}}}
    more = grid_of(workspace, axes=two)
    source, other = folder(workspace, first), more.run(more.cells[2], 1)
    assert len(made(more, workspace / "runs")) == 3
    (folder(workspace, other) / RECORD).unlink()  # it has to be made again, from weights that are gone
    assert made(more, workspace / "runs") == [first.name, other.name]
    make_run(first.located(workspace / "runs"), "model", print, label="first")
    (source / AWAITED).write_text(json.dumps([other.name]))
    (folder(workspace, other) / RECORD).unlink()
    assert made(grid, workspace / "runs") == [], "this study is done; it leaves what another one waits for"
    assert awaited(source) == {other.name} and last_checkpoint(source) is not None
    assert made(more, workspace / "runs") == [other.name]
    assert awaited(source) is None and last_checkpoint(source) is None


def test_a_study_that_keeps_weights_has_them_for_good(workspace: Path) -> None:
    grid, first, then = pair(workspace)
    make_run(first.located(workspace / "runs"), "nothing", print, label="first", starting=[then.name])
    assert awaited(folder(workspace, first)) == {then.name} and last_checkpoint(folder(workspace, first))
    assert Sweep(grid, workspace / "runs").missing() == [then]
    keeping = grid_of(workspace, axes={"training": {"first": {}}}, keep="model")
    assert made(keeping, workspace / "runs") == [], "the run is not trained again"
    assert awaited(folder(workspace, first)) is None
    assert made(grid, workspace / "runs") == [then.name]
    assert last_checkpoint(folder(workspace, first)) is not None


def test_a_process_that_was_killed_before_it_removed_weights(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    grid, first, then = pair(workspace)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("mt_dnn.studies.weights.forget_weights", kill)
        made(grid, workspace / "runs")
    assert (folder(workspace, then) / RECORD).exists() and last_checkpoint(folder(workspace, first)) is not None
    assert made(grid, workspace / "runs") == []
    assert last_checkpoint(folder(workspace, first)) is None and awaited(folder(workspace, first)) is None


def test_a_run_whose_start_has_failed_is_given_up_until_that_is_mended(workspace: Path) -> None:
    axes = {"training": {"first": {"optimizer.lr": 1e30}, "then": {"train.init_from": {"training": "first"}}}}
    grid, first, then = pair(workspace, axes=axes)
    made(grid, workspace / "runs")
    record = read_record(folder(workspace, then))
    assert record is not None and record["attempts"] == 0
    assert record["error"].startswith(f"starts from {first.name}, which failed: ")
    assert made(grid, workspace / "runs") == []
    (folder(workspace, first) / RECORD).unlink()
    assert Sweep(grid, workspace / "runs").missing() == [first, then]


def test_a_finished_run_keeps_its_record_when_its_weights_cannot_be_made_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, first, then = pair(workspace)
    made(grid, workspace / "runs")
    record = read_record(folder(workspace, first))
    (folder(workspace, then) / RECORD).unlink()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory")

    said = list[str]()
    with monkeypatch.context() as patched:
        patched.setattr("mt_dnn.studies.make.Run", broken)
        assert Sweep(grid, workspace / "runs")(said.append) == 0
    assert read_record(folder(workspace, first)) == record and record is not None and "error" not in record
    left = read_record(folder(workspace, then))
    assert left is not None and left["attempts"] == 0
    assert left["error"] == f"starts from {first.name}, which failed: RuntimeError: no memory"
    spent = folder(workspace, first) / SPENT
    assert any("its record stays" in line and f"remove {spent}" in line for line in said)
    assert made(grid, workspace / "runs") == []
    keeping = grid_of(workspace, axes={"training": {"first": {}}}, keep="model")
    assert made(keeping, workspace / "runs") == [], "nor does a study that keeps weights try for ever"
    spent.unlink()  # as the message says
    assert made(grid, workspace / "runs") == [first.name, then.name]
    assert "error" not in (read_record(folder(workspace, then)) or {"error": ""})


def test_a_dry_run_names_runs_that_wait_for_their_start(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "__call__", lambda self, config: Rate(1.0, "a test"))
    grid, *_ = pair(workspace)
    text = dry_run_text([Sweep(grid, workspace / "runs")])
    assert text.startswith("two modes: 2 runs: 1 missing, 1 waits for its start")


def test_a_damaged_list_is_named(workspace: Path) -> None:
    (workspace / AWAITED).write_text("{")
    with pytest.raises(UserError, match=rf"{AWAITED}: is damaged \(.*\); remove it"):
        release(workspace)
