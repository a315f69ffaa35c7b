"""What a run folder says of the machine, the code and the files that a run was made with."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mt_dnn.runs import environment as module
from mt_dnn.runs import hashes
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run


def started(workspace: Path, *options: str, stopped: bool = False) -> list[dict[str, Any]]:
    settings = ["tasks=[same]", "train.max_steps=8", "evaluation.every_steps=4", *options]
    Run(load_config(workspace / "run.yml", settings), shown=False, hopeless=lambda *_: stopped)()
    return json.loads((workspace / "run" / "environment.json").read_text())


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_each_start_that_differs_has_an_entry(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/mt-dnn", "train", "a file.yml"])
    (first,) = started(workspace, stopped=True)
    assert first["step"] == 0 and first["command"] == "mt-dnn train 'a file.yml'"
    assert first["versions"]["torch"] == torch.__version__
    assert first["versions"]["transformers"] == transformers.__version__
    assert first["versions"]["python"] == platform.python_version()
    assert first["machine"]["device"] == "cpu" and first["machine"]["processes"] == 1
    data, encoder = workspace / "data", workspace / "encoder"
    assert first["data"]["same/train"] == sha256(data / "same_train.tsv")
    assert first["encoder"]["name"] == str(encoder)
    assert first["encoder"]["sha256"]["model.safetensors"] == sha256(encoder / "model.safetensors")
    # A resumed run on another machine, with the encoder gone: the checkpoint holds what the run needs.
    for file in encoder.iterdir():
        file.unlink()
    encoder.rmdir()
    monkeypatch.setattr(module, "processor", lambda: "another one")
    before, after = started(workspace)
    assert before == first and after["step"] == 4 and after["encoder"] == first["encoder"]
    assert after["machine"]["processor"] == "another one"
    assert started(workspace) == [before, after]  # a third start finds a finished run on the same machine


@pytest.mark.parametrize("content", [b"{", b"\xff", 100_000 * b"["], ids=["cut off", "not UTF-8", "deep"])
def test_what_cannot_be_read_has_no_entries(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_bytes(content)
    assert module.read_environment(tmp_path) == []


def test_a_run_from_before_this_file_needs_nothing_that_it_has_read_once(workspace: Path) -> None:
    """The checkpoint holds what the run needs, and what is there now may not be what it has read."""
    config = load_config(workspace / "run.yml", ["tasks=[same]", "train.max_steps=4", f"output={workspace / 'first'}"])
    Run(config, shown=False)()
    start = f"train.init_from={workspace / 'first'}"
    (first,) = started(workspace, start, stopped=True)
    assert first["encoder"]["init_from"] == str(workspace / "first")
    assert "init_from/heads.safetensors" in first["encoder"]["sha256"]
    (workspace / "run" / "environment.json").unlink()
    shutil.rmtree(workspace / "first")
    (after,) = started(workspace, start)
    assert after["step"] == 4
    assert after["encoder"] == {"name": str(workspace / "encoder"), "init_from": str(workspace / "first")}


def test_no_file_is_hashed_twice(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of ``encoder.sha256`` reads the weights too."""
    opened: Counter[str] = Counter()
    weights = workspace / "encoder" / "model.safetensors"
    read = hashes._file_hash

    def counted(file: Path, *stat: int) -> str:
        before = read.cache_info().misses
        found = read(file, *stat)
        opened[file.name] += read.cache_info().misses - before
        return found

    monkeypatch.setattr(hashes, "_file_hash", counted)
    started(workspace, f"encoder.sha256={sha256(weights)}")
    assert opened["model.safetensors"] == 1


def test_a_repository_of_the_user_is_not_the_commit_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    file = tmp_path / "venv" / "environment.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(module, "__file__", str(file))
    assert module.revision.__wrapped__() == ("", False)
    subprocess.run(["git", "add", file], cwd=tmp_path, check=True)
    name, changed = module.revision.__wrapped__()
    assert len(name) == 12 and changed
