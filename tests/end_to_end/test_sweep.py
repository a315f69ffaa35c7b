"""Sweeps that are cut off, shared, killed, or given wrong input: no run is lost and none is made twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.studies.attempts import SPENT
from mt_dnn.studies.records import RECORD, read_records
from tests import forks
from tests.forks import Process
from tests.study_files import write_study
from tests.workspace import make_workspace

LONG = {"tasks": ["negated"], "train.epochs": 8, "log.every_steps": 3, "checkpoint.every_steps": 2}
SEEDS: dict[str, Any] = {"settings": LONG, "axes": {"optimizer.lr": [0.001]}, "seeds": 3}
VARYING = ("seconds", "cpu_seconds", "cut_off")


def start(workspace: Path, *options: str, study: str = "study.yml", runs: str = "runs") -> Process:
    return forks.start("sweep", str(workspace / study), "--runs", str(workspace / runs), *options)


def sweep(workspace: Path, *options: str, code: int = 0, **given: Any) -> str:
    """Runs a sweep to its end. Returns what it has printed."""
    process = start(workspace, *options, **given)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors
    return output + errors


def begun(output: str) -> list[str]:
    """The names of the runs that a sweep has begun or gone on with, in order."""
    names = (line.split(": ")[0] for line in output.splitlines())
    return [name for name in names if name.startswith("negated-")]


def results(folder: Path) -> dict[str, Any]:
    found = {record["run"]: record for record in read_records(folder)}
    return {name: {k: v for k, v in record.items() if k not in VARYING} for name, record in found.items()}


def wait_for(found: Callable[[], Any], process: Process) -> Any:
    """Returns what is found, as soon as it is something."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1] if process.poll() is not None else "too slow")


def in_training(runs: Path) -> Path | None:
    """The folder of a run that has a checkpoint and no record. The first run of a sweep is left to finish."""
    folders = [folder for folder in runs.glob("negated-*") if last_checkpoint(folder) is not None]
    finished = list(runs.glob(f"*/{RECORD}"))
    return next((folder for folder in folders if not (folder / RECORD).exists()), None) if finished else None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    make_workspace(folder)
    write_study(folder, **SEEDS)
    errors = sweep(folder)
    assert len(begun(errors)) == 3 and "3 of 3 runs done" in errors and " left" in errors
    assert "\r" not in errors, "bars of many runs would flood a log"
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_is_cut_off_goes_on_and_gives_the_same(undisturbed: Path, number: signal.Signals) -> None:
    runs = f"cut-{number.name}"
    process = start(undisturbed, runs=runs)
    cut = wait_for(lambda: in_training(undisturbed / runs), process)
    process.send_signal(number)
    first, errors = process.communicate(timeout=600)
    assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL), errors
    assert not (cut / RECORD).exists()
    second = sweep(undisturbed, runs=runs)
    assert "resuming" in second
    assert begun(first) == [*begun(first)[:-1], cut.name] and begun(second)[0] == cut.name
    assert not {*begun(first)[:-1]} & {*begun(second)}, "a finished run is made again"
    assert results(undisturbed / runs) == results(undisturbed / "runs")
    assert begun(sweep(undisturbed, runs=runs)) == []


def test_two_processes_share_a_study(undisturbed: Path) -> None:
    processes = [start(undisturbed, runs="shared") for _ in range(2)]
    made = []
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        made += begun(output)
    assert sorted(made) == sorted(results(undisturbed / "runs")), "each run is made once"
    assert results(undisturbed / "shared") == results(undisturbed / "runs")


def test_processes_wait_for_a_run_that_others_start_from(workspace: Path) -> None:
    again = {"train.init_from": {"training": "first"}, "train.init_heads": True}
    write_study(workspace, settings=LONG, axes={"training": {"first": {}, "again": again}}, seeds=2)
    processes = [start(workspace, *options) for options in ((), ("--workers", "2"))]
    made = []
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0 and "4 of 4 runs done" in output, errors
        made += begun(output)
    found = results(workspace / "runs")
    assert sorted(made) == sorted(found) and len(found) == 4 and not any("error" in record for record in found.values())
    sources = {record["id"] for record in found.values() if "init_from" not in record["encoder"]}
    assert {record["encoder"].get("init_from") for record in found.values()} == {None, *sources}
    assert not list((workspace / "runs").glob("*/checkpoints/step-*")), "weights go when nothing starts from them"


def test_workers_share_a_study_and_are_stopped_together(undisturbed: Path) -> None:
    runs = undisturbed / "workers"
    process = start(undisturbed, "--workers", "2", runs=runs.name)
    wait_for(lambda: any(last_checkpoint(run) for run in runs.glob("negated-*")), process)  # two of three have begun
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert len(results(runs)) < 3
    second = sweep(undisturbed, "--workers", "2", runs=runs.name)
    assert results(runs) == results(undisturbed / "runs")
    assert "3 of 3 runs done" in second


@pytest.mark.parametrize("how", ["--workers=2", "--guarded"])
def test_a_worker_that_is_killed_is_started_again_and_its_run_has_two_attempts(undisturbed: Path, how: str) -> None:
    """A task of a job array is guarded, so that a run with too little memory does not end one task after another."""
    folder = undisturbed / f"killed{how}"
    process, killed = start(undisturbed, how, runs=folder.name), list[str]()
    for _ in range(2):

        def trained() -> tuple[Path, int] | None:
            """The run that is killed, and the process that makes it."""
            for run in folder.glob(killed[0] if killed else "negated-*"):
                maker = json.loads((run / SPENT).read_text())["process"] if (run / SPENT).exists() else None
                if maker and maker not in killed and last_checkpoint(run) is not None:
                    killed.extend([run.name, maker])
                    return run, int(maker.split(":")[1])
            return None

        os.kill(wait_for(trained, process)[1], signal.SIGKILL)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "3 of 3 runs done, 1 failed" in output
    made = results(folder)
    assert "SIGKILL" in made[killed[0]]["error"] and made[killed[0]]["attempts"] == 2
    expected = results(undisturbed / "runs")
    assert {name: made[name] for name in made if name != killed[0]} == {
        name: expected[name] for name in expected if name != killed[0]
    }


def test_studies_share_the_runs_that_they_have_in_common(workspace: Path) -> None:
    write_study(workspace, "first.yml")
    axes = {"mode": {"r": {"adversary.mode": "rdrop"}, "vat": {"adversary.mode": "vat"}}}
    write_study(workspace, "second.yml", axes=axes)
    assert len(begun(sweep(workspace, study="first.yml"))) == 2
    assert [name.split("-")[1] for name in begun(sweep(workspace, study="second.yml"))] == ["vat"]


def test_a_run_that_diverges_is_named_and_the_sweep_goes_on(workspace: Path) -> None:
    write_study(workspace, axes={"optimizer.lr": [1e30, 0.001]})
    errors = sweep(workspace)
    made = list(read_records(workspace / "runs"))
    (failed,) = [record for record in made if "error" in record]
    assert len(made) == 2 and failed["attempts"] == 2 and failed["settings"]["optimizer"]["lr"] == 1e30
    assert f"{failed['run']}: failed 2 times" in errors and "2 of 2 runs done, 1 failed" in errors
    assert begun(sweep(workspace)) == []


def test_chosen_settings_are_run_with_all_seeds(workspace: Path) -> None:
    write_study(workspace, axes={"optimizer.lr": [1e-6, 0.003]}, seeds=3, select={"over": ["optimizer.lr"]})
    errors = sweep(workspace)
    assert "runs done so far" in errors and "4 of 4 runs done" in errors
    seeds = sorted(
        (record["settings"]["optimizer"]["lr"], record["seed"]) for record in read_records(workspace / "runs")
    )
    assert len(seeds) == 4 and len({lr for lr, seed in seeds if seed > 1}) == 1


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_wrong_input_stops_with_one_line_that_names_the_cell(workspace: Path, workers: list[str]) -> None:
    write_study(workspace, axes={"method": {"good": {}, "bad": {"train.epoch": 1}}})
    errors = sweep(workspace, *workers, code=2)
    assert errors.startswith("mt-dnn: cell method=bad: ") and errors.count("\n") == 1
    write_study(workspace, axes={"task": ["negated", "overlap"]})
    (workspace / "data" / "overlap_train.tsv").unlink()
    errors = sweep(workspace, *workers, code=2)
    assert errors.startswith("mt-dnn: task=overlap, seed 1: ") and errors.count("\n") == 1
    assert "overlap_train.tsv: no such file" in errors
    assert not (workspace / "runs").exists()


def test_after_the_hours_no_further_run_begins(undisturbed: Path) -> None:
    errors = sweep(undisturbed, "--max-hours", "0", runs="late")
    assert "0 of 3 runs done, the time is up" in errors and not list((undisturbed / "late").glob("*"))


def test_study_files_are_in_the_schema(workspace: Path) -> None:
    output, _ = forks.start("config", "--schema").communicate(timeout=120)
    schema = json.loads(output)
    assert {"$ref": "#/$defs/study"} in schema["anyOf"]
    study = schema["$defs"]["study"]
    assert study["additionalProperties"] is False and study["required"] == ["title", "base", "axes"]
    assert set(yaml.safe_load(write_study(workspace).read_text())) <= set(study["properties"])
    references = set(json.dumps(schema).split('"#/$defs/')[1:])
    assert {text.split('"')[0] for text in references} <= set(schema["$defs"])
