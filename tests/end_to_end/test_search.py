"""Searches with Optuna: every trial is a run, several workers share them, and a search that is cut off goes on."""

from __future__ import annotations

import json
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.studies.records import read_records
from mt_dnn.studies.study import load_study
from tests import forks
from tests.study_files import grid_of, write_study

pytestmark = pytest.mark.skipif(find_spec("optuna") is None, reason="the extra studies is not installed")
SEARCH = {"keys": {"optimizer.lr": [0.001, 0.003], "train.batch_size": [4, 8]}, "pruning": False}


def write(workspace: Path, axes: Any = None, **search: Any) -> None:
    write_study(workspace, axes=axes or {"method": {"plain": {}}}, search={**SEARCH, **search})


def start(workspace: Path, *options: str) -> forks.Process:
    return forks.start("search", str(workspace / "study.yml"), "--runs", str(workspace / "runs"), *options)


def search(workspace: Path, *options: str, code: int = 0) -> str:
    process = start(workspace, *options)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    return output + errors


def row(output: str) -> list[str]:
    """The row of the table for the cell of the study."""
    (found,) = [line.split() for line in output.splitlines() if line.startswith("method=plain ")]
    return found


def tried(workspace: Path) -> list[tuple[float, int]]:
    settings = [record["settings"] for record in read_records(workspace / "runs")]
    return sorted((found["optimizer"]["lr"], found["train"]["batch_size"]) for found in settings)


ALL = [(0.001, 4), (0.001, 8), (0.003, 4), (0.003, 8)]


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_lists_are_tried_in_all_combinations_each_once(workspace: Path, workers: list[str]) -> None:
    write(workspace)
    output = search(workspace, *workers)
    assert tried(workspace) == ALL
    records = list(read_records(workspace / "runs"))
    scores = [r["scores"]["mcc"] for record in records for r in record["results"] if r["split"] == "carved"]
    assert len(scores) == 4 and f"{100 * max(scores):.2f}" in row(output)
    assert "negated-none" not in search(workspace, *workers), "all trials are made"


def test_two_processes_share_a_database(workspace: Path) -> None:
    write(workspace, trials=3)
    storage = ("--storage", f"sqlite:///{workspace / 'trials.db'}")
    processes = [start(workspace, *storage) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert len(tried(workspace)) == 3


def test_a_search_that_is_cut_off_goes_on(workspace: Path) -> None:
    write(workspace)
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = len(tried(workspace)) if (workspace / "runs").exists() else 0
        process = start(workspace, "train.epochs=6", "checkpoint.every_steps=1")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and len(list((workspace / "runs").glob("*/checkpoints"))) < before + 1:
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=600)
        assert process.returncode == (0 if number == signal.SIGTERM else -number)
    output = search(workspace, "train.epochs=6", "checkpoint.every_steps=1")
    assert tried(workspace) == ALL and row(output)[1] == "4"


def test_ranges_are_drawn_within_their_ends_and_a_search_repeats(workspace: Path, tmp_path: Path) -> None:
    keys = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "train.batch_size": {"low": 5, "high": 7}}
    write(workspace, keys=keys, trials=7)
    search(workspace)
    first = tried(workspace)
    assert len(first) == 7 and len({lr for lr, _ in first}) == 7
    assert all(1e-4 <= lr <= 1e-2 and 5 <= size <= 7 for lr, size in first)
    (workspace / "runs").rename(workspace / "before")
    search(workspace)
    assert tried(workspace) == first


def test_a_trial_that_diverges_is_counted_as_failed(workspace: Path) -> None:
    write(workspace, keys={"optimizer.lr": [1e30, 0.001]})
    output = search(workspace)
    cells = row(output)
    assert cells[:4] == ["method=plain", "1", "0", "1"] and cells[5] == "optimizer.lr=0.001"


def test_a_hopeless_run_is_stopped_early(workspace: Path) -> None:
    """A learning rate of 1e-7 learns nothing. Five trials that learn come first, by their order in the queue."""
    good = [0.01, 0.011, 0.012, 0.013, 0.014]
    write(workspace, keys={"optimizer.lr": [*good, 1e-7]}, pruning=True)
    from mt_dnn.studies.search import Searching

    found = Searching(grid_of_file(workspace), workspace / "runs")
    study = found.studies["method=plain"]
    for lr in [*good, 1e-7]:
        study.enqueue_trial({"optimizer.lr": lr})
    output = search(workspace, "train.epochs=10")
    cells = row(output)
    assert (int(cells[1]), int(cells[2])) == (5, 1)
    assert len(tried_rates(workspace)) == 5 and 1e-7 not in tried_rates(workspace)


def tried_rates(workspace: Path) -> list[float]:
    return [record["settings"]["optimizer"]["lr"] for record in read_records(workspace / "runs")]


def grid_of_file(workspace: Path) -> Any:
    from mt_dnn.studies.grid import Grid

    return Grid(load_study(workspace / "study.yml"), ["train.epochs=10"])


def test_a_study_without_a_search_is_named(workspace: Path) -> None:
    write_study(workspace)
    assert search(workspace, code=2) == "mt-dnn: two modes: the study has no key 'search'; say there what to try\n"
    write(workspace)
    errors = search(workspace, "--storage", "nothing://x", code=2)
    assert errors.startswith("mt-dnn: --storage nothing://x: cannot be opened") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": {}}, "search.keys: "),
        ({"keys": {"optimizer.lr": {"low": 2, "high": 1}}}, "low is 2.* and high 1"),
        ({"keys": {"optimizer.lr": {"low": 0, "high": 1, "log": True}}}, "with log it has to be above 0"),
        ({"trials": 0}, "search.trials: "),
    ],
)
def test_a_wrong_search_is_named(workspace: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_study(write_study(workspace, search={**SEARCH, **changes}))


def test_a_trial_is_carved_from_train_unless_dev_decides(workspace: Path) -> None:
    for split, carve in (("carved", 0.25), ("dev", None)):
        grid = grid_of(workspace, search={**SEARCH, "split": split, "share": 0.25, "seed": 4})
        given = grid.trial(grid.cells[1], {"optimizer.lr": 0.5}).given
        assert (given.data.carve, given.seed, given.optimizer.lr, given.adversary.mode) == (carve, 4, 0.5, "rdrop")
        assert json.loads(given.model_dump_json())


def test_other_values_or_settings_are_another_search(workspace: Path) -> None:
    from mt_dnn.studies.search import Searching

    def name(*overrides: str, **changes: Any) -> str:
        found = Searching(grid_of(workspace, *overrides, search={**SEARCH, **changes}), workspace / "runs")
        return found.studies["method=plain"].study_name

    ranged = {"optimizer.lr": {"low": 0.1, "high": 0.2}}
    names = [name(), name("train.epochs=3"), name(share=0.5), name(keys=ranged), name(trials=3)]
    assert len(set(names)) == 5
    assert name(keys=ranged, trials=50) == names[3], "more trials go on with it"
