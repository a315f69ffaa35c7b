"""Tokens of the environment and passwords of the command line are in no file of a run, and are not printed."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.forks import Command, run_python
from tests.study_files import write_study

SECRETS = {"HF_TOKEN": "hf_s3crets3cret", "WANDB_API_KEY": "wa_s3cret" * 5, "MLFLOW_TRACKING_PASSWORD": "ml_s3cret"}
PASSWORD = "db_s3cret"


def search(workspace: Path, storage: str) -> tuple[int | None, str]:
    """Starts a search, as a user does. Returns the exit code and what was printed."""
    command = ["-m", "mt_dnn.cli", "search", str(workspace / "study.yml"), "--runs", str(workspace / "runs")]
    process = Command([*command, "--storage", storage], {**os.environ, **SECRETS}, run=run_python)
    printed = "".join(process.communicate(timeout=300))
    return process.returncode, printed


@pytest.mark.skipif(find_spec("optuna") is None, reason="the extra studies is not installed")
def test_no_file_of_a_run_holds_a_secret(workspace: Path) -> None:
    trackers = [name for name in ("tensorboard", "wandb", "mlflow") if find_spec(name) is not None]
    settings = {"tasks": ["negated"], "train.max_steps": 2, "log.every_steps": 1, "log.trackers": trackers}
    write_study(
        workspace,
        settings=settings,
        axes={"method": {"plain": {}}},
        search={"keys": {"optimizer.lr": [0.001]}, "pruning": False},
    )
    code, printed = search(workspace, f"sqlite:///file:{workspace / 'trials.db'}?uri=true&password={PASSWORD}")
    assert code == 0, printed
    (environment,) = (workspace / "runs").glob("*/environment.json")
    assert "uri=true&password=***" in json.loads(environment.read_text())[0]["command"]
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert not trackers or any(tracker in f"{path}" for path in files for tracker in trackers)
    for secret in (PASSWORD, *SECRETS.values()):
        assert secret not in printed
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    code, printed = search(workspace, f"nodb://me:{PASSWORD}@host/{SECRETS['HF_TOKEN']}")
    assert code == 2 and "--storage nodb://me:***@host/***: cannot be opened" in printed and PASSWORD not in printed
