"""What a run does, writes and keeps."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data_utils.errors import NotSaved, UserError
from mt_dnn.runs import evaluate
from mt_dnn.runs import run as run_module
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run


@pytest.mark.parametrize(
    "options",
    [
        (),  # the best model is the last one, or one of an earlier epoch
        ("optimizer.lr=1e-9", "train.epochs=3"),  # every model is as good, so the first stays the best
        ("evaluation.metric=null",),
        ("evaluation.metric=loss", "train.epochs=2"),
    ],
)
def test_no_model_is_evaluated_twice_on_the_same_rows(
    options: tuple[str, ...], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: Counter[Any] = Counter()
    row_outputs = evaluate.row_outputs

    def counted(model: Any, task: str, split: Any, *args: Any, **kwargs: Any) -> Any:
        weights = sum(parameter.detach().double().sum().item() for parameter in model.parameters())
        evaluated[split.manifest["source"], weights] += 1
        return row_outputs(model, task, split, *args, **kwargs)

    monkeypatch.setattr(evaluate, "row_outputs", counted)
    run = Run(load_config(workspace / "run.yml", ["tasks=[same]", "train.epochs=1", *options]))
    torch.manual_seed(0)
    summary = run()
    assert isinstance(summary, dict) and summary["results"]
    assert set(evaluated.values()) == {1}, evaluated


def test_a_plan_that_ends_too_early_is_no_success(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(*args: Any, **kwargs: Any) -> Any:
        return islice(train(*args, **kwargs), 2)

    train = run_module.train
    monkeypatch.setattr(run_module, "train", half)
    run = Run(load_config(workspace / "run.yml", ["tasks=[same]", "train.epochs=1"]))
    with pytest.raises(RuntimeError, match="the plan ended after update 2 of "):
        run()
    assert not (run.folder / "summary.json").exists()


def records(workspace: Path, event: str) -> list[dict[str, Any]]:
    found = map(json.loads, (workspace / "run" / "metrics.jsonl").read_text().splitlines())
    return [record for record in found if record["event"] == event]


def test_epochs_count_from_one_and_each_task_has_its_loss(workspace: Path) -> None:
    settings = ["tasks=[same, overlap]", "log.every_steps=1", "encoder.dropout=0", "heads.dropout=0"]
    summary = Run(load_config(workspace / "run.yml", settings), shown=False)()
    assert isinstance(summary, dict)
    train = records(workspace, "train")
    half = len(train) // 2
    assert [record["epoch"] for record in train] == [1] * half + [2] * half
    assert [record["epoch"] for record in records(workspace, "evaluation")] == [1, 2]
    for record in train:  # an update has one task, so its loss is the update's
        assert list(record["losses"].values()) == [pytest.approx(record["loss"], rel=1e-5)]
    assert {name for record in train for name in record["losses"]} == {"same", "overlap"}
    for record in records(workspace, "evaluation"):
        assert all(split["loss"] > 0 for by_split in record["scores"].values() for split in by_split.values())


@pytest.mark.parametrize("keep", ["while_running", "false"])
def test_a_finished_run_can_leave_out_the_optimizer(keep: str, workspace: Path) -> None:
    settings = ["tasks=[same]", "optimizer.lr=1e-9", f"checkpoint.keep_optimizer={keep}"]  # so the first model is best
    summary = Run(load_config(workspace / "run.yml", settings), shown=False)()
    kept = sorted((workspace / "run" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-00000006", "step-00000012"]
    assert [[file.name for file in (path / "trainer").iterdir()] for path in kept] == [["state.json"]] * 2
    # A second start finds a finished run. More epochs need the optimizer.
    assert Run(load_config(workspace / "run.yml", settings), shown=False)() == summary
    with pytest.raises(UserError, match="saved without the optimizer"):
        Run(load_config(workspace / "run.yml", [*settings, "train.epochs=3"]), shown=False)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_without_optimizer_state_starts_again(stop: int, workspace: Path) -> None:
    def run(name: str, stop: int = 0) -> Run:
        settings = ["tasks=[same]", f"output={workspace / name}", "checkpoint.keep_optimizer=false", "train.epochs=3"]
        config = load_config(workspace / "run.yml", [*settings, "log.every_steps=1", "optimizer.lr=1e-9"])
        return Run(config, shown=False, hopeless=lambda epoch, _: epoch == stop)

    def content(name: str) -> list[object]:
        folder = workspace / name
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        weights = [load_file(path / "heads.safetensors") for path in sorted((folder / "checkpoints").iterdir())]
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        told = [(line["event"], line["step"], line.get("loss"), line.get("scores")) for line in lines]
        return [files, told, [{key: value.tolist() for key, value in held.items()} for held in weights]]

    assert isinstance(run("cut", stop)(), int)
    again = run("cut")
    assert again.parts.progress.position.step == 0
    (notice,) = (notice for notice in again.parts.notices if "starts again" in notice)
    assert notice == f"{workspace / 'cut'}: starts again, because its checkpoint was saved without the optimizer"
    summary, straight = again(), run("straight")()
    assert isinstance(summary, dict) and isinstance(straight, dict)
    assert {**summary, "name": ""} == {**straight, "name": ""} and content("cut") == content("straight")
    assert (workspace / "cut" / "best").resolve().name == (workspace / "straight" / "best").resolve().name


def test_a_run_that_is_to_start_again_keeps_files_of_the_user(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "checkpoint.keep_optimizer=false"])
    assert isinstance(Run(config, shown=False, hopeless=lambda *_: True)(), int)
    (checkpoint,) = (workspace / "run" / "checkpoints").iterdir()
    (checkpoint / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="move it away, then the run starts again"):
        Run(config, shown=False)()
    assert (checkpoint / "notes.txt").read_text() == "mine"
    (checkpoint / "notes.txt").unlink()
    assert Run(config, shown=False)()["steps"] == 12  # type: ignore[index]


def test_a_run_that_keeps_the_optimizer_while_it_runs_goes_on(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "checkpoint.keep_optimizer=while_running"])
    assert isinstance(Run(config, shown=False, hopeless=lambda *_: True)(), int)
    assert Run(config, shown=False).parts.progress.position.step == 6


def test_a_stop_says_whether_the_run_goes_on(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: object) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    for keep, goes_on in (("true", "continues from there"), ("false", "starts again, because checkpoint.keep_optim")):
        settings = ["tasks=[same]", f"output={workspace / keep}", f"checkpoint.keep_optimizer={keep}"]
        assert Run(load_config(workspace / "run.yml", settings), shown=False, hopeless=stop)() == signal.SIGTERM
        assert f"stopped after update 7; the same command {goes_on}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("checkpoint", "kept"), [(False, "there is no checkpoint yet"), (True, "the last checkpoint is whole")]
)
def test_a_write_that_fails_says_which_checkpoint_there_is(checkpoint: bool, kept: str, tmp_path: Path) -> None:
    if checkpoint:
        (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(NotSaved) as error, run_module.unsaved(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", f"{tmp_path / 'metrics.jsonl'}")
    assert f"metrics.jsonl: cannot be written (No space left on device); {kept}; " in f"{error.value}; "
