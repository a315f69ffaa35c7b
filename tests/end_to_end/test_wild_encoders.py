"""Encoder folders as they are found on the hub train, resume from the best checkpoint and predict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mt_dnn
from mt_dnn.runs.checkpoint import last_checkpoint
from tests.golden.runner import run_command
from tests.tiny import FAMILIES
from tests.wild import old_name, split_in_two, weights, wild_encoder, write_weights
from tests.workspace import make_workspace

# Scores stay as they are, so the first checkpoint stays the best, and the last one is another.
OPTIONS = ["optimizer.lr=1e-12", "train.max_steps=3", "evaluation.every_steps=1", 'tasks=["negated"]']


def train(workspace: Path, encoder: Path) -> dict[str, Any]:
    """Trains, resumes from the best checkpoint, and returns the summary of the run."""
    run, command = workspace / "run", ["train", str(workspace / "run.yml"), f"encoder.name={encoder}", *OPTIONS]
    run_command(*command)
    first, last = json.loads((run / "summary.json").read_text()), last_checkpoint(run)
    assert first["selected_step"] == 1 and last is not None and last.name == "step-00000003"
    shutil.rmtree(last)
    assert "after update 1 of 3" in run_command(*command)
    again = json.loads((run / "summary.json").read_text())
    assert again == first and last.exists()
    return again


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make_workspace(tmp_path, train_rows=16)
    return tmp_path


def assert_predicts(run: Path) -> None:
    (prediction,) = mt_dnn.load(run).predict("negated", ["the cat sees not"])
    assert prediction["prediction"] in ("yes", "no")


@pytest.mark.parametrize("family", FAMILIES)
def test_old_names_of_weights_and_prefixes_of_task_models(family: str, workspace: Path) -> None:
    """transformers converts the names when it loads them; a checkpoint holds the names of the model itself."""
    folder = wild_encoder(workspace / "wild", family)
    if family in ("bert", "mpnet"):
        split_in_two(folder)
    train(workspace, folder)
    saved = last_checkpoint(workspace / "run")
    assert saved is not None and not any(".gamma" in name or ".beta" in name for name in weights(saved / "encoder"))
    assert_predicts(workspace / "run")


def test_a_best_checkpoint_that_an_older_version_saved_under_old_names_is_read(workspace: Path) -> None:
    folder = wild_encoder(workspace / "wild")
    train(workspace, folder)
    saved = workspace / "run" / "best" / "encoder"
    write_weights(saved, {old_name(name): value for name, value in weights(saved).items()})
    shutil.rmtree(workspace / "run" / "checkpoints" / "step-00000003")
    run_command("train", str(workspace / "run.yml"), f"encoder.name={folder}", *OPTIONS)
    assert_predicts(workspace / "run")
