"""A finished run goes on for more epochs, and says what this means for the learning rate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_linear_schedule_with_warmup

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.runs.checkpoints import last_checkpoint
from tests.workspace import make_workspace

OPTIONS: dict[str, Any] = {"tasks": ["negated"], "log.every_steps": 1, "optimizer.lookahead.enabled": False}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A workspace with a finished run of 2 epochs, 8 updates."""
    make_workspace(tmp_path, train_rows=32)
    train(tmp_path)
    return tmp_path


def train(workspace: Path, **options: Any) -> dict[str, Any]:
    overrides = {**OPTIONS, **{key.replace("__", "."): value for key, value in options.items()}}
    return dict(mt_dnn.train(workspace / "run.yml", overrides).summary)


def records(workspace: Path, event: str) -> list[dict[str, Any]]:
    lines = (workspace / "run" / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def expected_rates(steps: int) -> list[float]:
    """The learning rates of plain transformers for a run of so many updates."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * steps), steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_it_goes_on_with_the_schedule_of_the_longer_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = train(finished, train__epochs=5)
    said = capsys.readouterr().out
    assert f"{finished / 'run'}: goes on up to 20 updates after 8 of 8. The schedule now spans 20 updates" in said
    assert "the learning rate changes from 0 to 0.000667;" in said
    assert summary["steps"] == 20
    rates = [record["lr"] for record in records(finished, "train")]
    assert rates == pytest.approx([*expected_rates(8), *expected_rates(20)[8:]])
    assert [record["step"] for record in records(finished, "evaluation")] == [4, 8, 12, 16, 20]
    capsys.readouterr()
    assert train(finished, train__epochs=5) == summary
    assert "goes on" not in capsys.readouterr().out


def test_it_goes_on_as_it_would_have_if_it_was_killed_at_once(finished: Path) -> None:
    """The checkpoint says how long the run was planned, also if config.yml was written again already."""
    shutil.copytree(finished / "run", finished / "kept", symlinks=True)
    summary = train(finished, train__epochs=4)
    config = (finished / "run" / "config.yml").read_text()
    shutil.rmtree(finished / "run")
    (finished / "kept").rename(finished / "run")
    (finished / "run" / "config.yml").write_text(config)
    assert train(finished, train__epochs=4) == summary
    assert "epochs: 4" in (finished / "run" / "config.yml").read_text()
    last = last_checkpoint(finished / "run")
    assert last is not None and "epochs: 4" in (last / "config.yml").read_text()


def test_fewer_epochs_other_settings_and_unfinished_runs_are_refused(finished: Path) -> None:
    with pytest.raises(UserError, match=r"was trained for 8 updates, .* now ask for 4; ask for more"):
        train(finished, train__epochs=1)
    with pytest.raises(UserError, match=r"holds a run of another configuration .optimizer.lr"):
        train(finished, train__epochs=5, optimizer__lr=0.5)
    last = last_checkpoint(finished / "run")
    assert last is not None
    state = json.loads((last / "trainer" / "state.json").read_text())
    state["progress"]["finished"] = False
    (last / "trainer" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match=r"holds a run of another configuration .train.epochs: 2 there, 5 here"):
        train(finished, train__epochs=5)


def test_a_run_that_its_patience_has_ended_goes_on_and_ends_again(finished: Path) -> None:
    still: dict[str, Any] = {"optimizer__lr": 1e-12, "evaluation__patience": 1, "output": str(finished / "patient")}
    assert train(finished, train__epochs=3, **still)["steps"] == 8
    assert train(finished, train__epochs=4, **still)["steps"] == 12


ANNEALED: dict[str, Any] = {"tasks": ["same", "negated", "overlap"], "sampling__strategy": "annealed"}


@pytest.fixture
def annealed(tmp_path: Path) -> Path:
    """A workspace with a finished run of 3 annealed epochs, ended after 12 updates by ``max_steps``."""
    make_workspace(tmp_path, train_rows=32)
    for task, rows in (("negated", 8), ("overlap", 16)):
        file = tmp_path / "data" / f"{task}_train.tsv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[: rows + 1]))
    train(tmp_path, train__epochs=3, train__max_steps=12, **ANNEALED)
    return tmp_path


def test_annealed_epochs_stay_as_many_as_they_were_planned(annealed: Path) -> None:
    """The batches of past epochs depend on the number of epochs, so other epochs would be another run."""
    files = {path: path.read_bytes() for path in (annealed / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"run: was planned for 3 epochs, train.epochs now asks for 4; sampling") as no:
        train(annealed, train__epochs=4, train__max_steps=20, **ANNEALED)
    assert "\n" not in str(no.value)
    with pytest.raises(UserError, match="was planned for 3 epochs"):  # as many updates
        train(annealed, train__epochs=4, train__max_steps=12, **ANNEALED)
    assert files == {path: path.read_bytes() for path in (annealed / "run").rglob("*") if path.is_file()}


def test_annealed_epochs_go_on_up_to_more_updates(annealed: Path) -> None:
    summary = train(annealed, train__epochs=3, train__max_steps=15, **ANNEALED)
    last = last_checkpoint(annealed / "run")
    assert summary["steps"] == 15 and last is not None and last.name == "step-00000015"


def test_updates_that_are_not_the_first_of_the_plan_are_refused(finished: Path) -> None:
    """An earlier version may have gone on with another plan, whose loop then ends before the last update."""
    last = last_checkpoint(finished / "run")
    assert last is not None
    state = json.loads((last / "trainer" / "state.json").read_text())
    state["progress"]["position"]["update"] = 1
    (last / "trainer" / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="its 8 updates are not the first ones of this configuration's plan"):
        train(finished, train__epochs=5)
