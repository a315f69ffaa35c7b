"""A run cut off anywhere gives, after the same command again, what an undisturbed run gives, bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from data_utils.benchmarks.convert import convert
from experiments.arc.convert import TASKS as ARC
from experiments.glue.convert import TASKS as GLUE
from experiments.ner.convert import TASKS as NER
from experiments.squad.convert import TASKS as SQUAD
from mt_dnn.runs.checkpoints import last_checkpoint
from tests import forks
from tests.forks import Process
from tests.workspace import MORE_TASKS, make_workspace

TIMINGS = {"examples_per_s", "tokens_per_s"}
# Long enough that a signal sent after the first checkpoints always finds the run at work.
OPTIONS = ["checkpoint.every_steps=3", "evaluation.every_steps=18", "train.epochs=6"]
OPTIONS += ["train.accumulate=2", "train.mix_tasks=true"]


def start(workspace: Path, output: str, *overrides: str, real: bool = False) -> Process:
    train = ("train", str(workspace / "run.yml"), f"output={workspace / output}")
    return forks.start(*train, *OPTIONS, *overrides, real=real)


def finish(process: Process) -> str:
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output + errors


def wait_for_step(run: Path, process: Process, step: int) -> None:
    """Returns once a checkpoint of at least this step exists."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        found = last_checkpoint(run) if run.exists() else None
        if found is not None and int(found.name.removeprefix("step-")) >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"no checkpoint of step {step}: {process.communicate()[1] if process.poll() else 'too slow'}")


def records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


def tallies(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (run / "adversary").glob("*")}


def assert_same_run(first: Path, second: Path) -> None:
    one, other = last_checkpoint(first), last_checkpoint(second)
    assert one is not None and other is not None and one.name == other.name
    files = [{str(path.relative_to(run)) for path in run.rglob("*.safetensors")} for run in (one, other)]
    assert files[0] == files[1] and any("optimizer" in file for file in files[0])
    for file in files[0]:
        left, right = load_file(one / file), load_file(other / file)
        assert left.keys() == right.keys()
        assert all(left[name].equal(right[name]) for name in left), file
    assert tallies(first) == tallies(second)
    assert records(first) == records(second)
    assert json.loads((first / "summary.json").read_text()) == json.loads((second / "summary.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    make_workspace(folder)
    finish(start(folder, "whole"))
    return folder


def kill_and_resume(folder: Path, *overrides: str, step: int, real: bool = False) -> None:
    process = start(folder, "killed", *overrides, real=real)
    wait_for_step(folder / "killed", process, step)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "killed" / "summary.json").exists()
    assert "resuming" in finish(start(folder, "killed", *overrides))
    assert_same_run(folder / "whole", folder / "killed")
    assert bool(tallies(folder / "whole")) == ("adversary.mode=tat" in overrides)


def test_kill_in_mid_epoch_then_resume_is_bit_identical(undisturbed: Path) -> None:
    kill_and_resume(undisturbed, step=6, real=True)


def test_a_run_of_all_task_types_resumes_bit_identically(tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16, more=list(MORE_TASKS))
    options = ["adversary.mode=tat", "train.epochs=2", "train.accumulate=1", "train.mix_tasks=false"]
    finish(start(tmp_path, "whole", *options))
    kill_and_resume(tmp_path, *options, step=24)


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
@pytest.mark.timeout(1800)
def test_a_run_of_five_types_on_real_rows_resumes_bit_identically(tmp_path: Path) -> None:
    """The mixed run of experiments/tasks/mixed.yml, with a few of its rows."""
    wanted = {"mrpc", "stsb", "arc_easy", "wnut17", "squad", "xquad_en"}
    real = Path(os.environ["MT_DNN_REAL_DATA"])
    for folder, sources in ((real / "GLUE", GLUE), (real, ARC), (real, NER), (real, SQUAD)):
        chosen: dict[str, Any] = {name: source for name, source in sources.items() if name in wanted}
        assert not convert(chosen, folder, tmp_path / "data").failed
    for file in [*(tmp_path / "data").glob("*_dev.tsv"), *(tmp_path / "data").glob("*_test.tsv")]:
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:41]))
    shutil.copy("experiments/tasks/run.yml", tmp_path)
    options = [
        "task_defs=task_defs/mixed.yml",
        f"data.dir={tmp_path / 'data'}",
        "data.max_rows=40",
        "data.max_length=192",
    ]
    options += ["adversary.mode=tat", "train.epochs=2", "train.accumulate=1", "train.mix_tasks=false"]
    finish(start(tmp_path, "whole", *options))
    kill_and_resume(tmp_path, *options, step=18)
    results = json.loads((tmp_path / "whole" / "summary.json").read_text())["results"]
    assert {result["task"] for result in results} >= wanted - {"squad"}


def test_sigterm_saves_first_and_exits_with_0(undisturbed: Path) -> None:
    process = start(undisturbed, "stopped")
    wait_for_step(undisturbed / "stopped", process, 3)
    process.send_signal(signal.SIGTERM)
    output = finish(process)
    assert "the same command continues" in output
    step = int(output.split("stopped after update ")[1].split(";")[0])
    stopped_at = last_checkpoint(undisturbed / "stopped")
    assert stopped_at is not None and stopped_at.name == f"step-{step:08d}"
    finish(start(undisturbed, "stopped"))
    assert_same_run(undisturbed / "whole", undisturbed / "stopped")


def test_a_finished_run_is_not_trained_again(undisturbed: Path) -> None:
    before = records(undisturbed / "whole")
    assert "overlap (dev)" in finish(start(undisturbed, "whole"))
    assert records(undisturbed / "whole") == before


def test_a_run_goes_on_when_nobody_reads_what_it_prints(undisturbed: Path) -> None:
    """As in ``mt-dnn train run.yml 2>&1 | head -1``."""
    process = start(undisturbed, "unread", "train.max_steps=6", real=True)
    assert isinstance(process, subprocess.Popen) and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=300) == 0
    assert json.loads((undisturbed / "unread" / "summary.json").read_text())["steps"] == 6


def unread(arguments: Sequence[str]) -> None:
    """Runs ``mt-dnn`` with the arguments in a process that was just forked; nobody reads what it prints."""
    reading, writing = os.pipe()
    os.close(reading)
    for stream in (1, 2):
        os.dup2(writing, stream)
    forks.run_command(arguments)


def test_workers_go_on_when_nobody_reads_what_they_print(undisturbed: Path) -> None:
    output, options = undisturbed / "unread2", ["train.max_steps=6", "--gpus", "2"]
    arguments = ["train", str(undisturbed / "run.yml"), f"output={output}", *OPTIONS, *options]
    process = forks.Command(arguments, os.environ, run=unread)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert json.loads((output / "summary.json").read_text())["steps"] == 6
