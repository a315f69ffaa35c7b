"""No command asks the network for what it was not told to get there, also where the hub could be reached.

Only calls of the Python process itself are watched. What compiled code calls is not seen, and neither is what the
programs in ``STARTED`` do. Of these only wandb-core would send something, so it is checked that its runs are offline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.forks import Command
from tests.study_files import write_study
from tests.watched import CALLED, run_watched

FAST = ["tasks=[same]", "data.max_rows=16", "train.batch_size=8", "train.max_steps=2", "log.every_steps=1"]
STARTED = {"git", "uname", "wandb-core"}  # programs that commands start


def watched(folder: Path, commands: Sequence[Sequence[object]], code: int) -> list[tuple[str, ...]]:
    """Each call of the commands to the network, and each start of a process."""
    given, notes = folder / "commands.json", folder / "calls.jsonl"
    given.write_text(json.dumps([[str(word) for word in command] for command in commands]), encoding="utf-8")
    notes.touch()
    process = Command([str(given), str(notes)], run=run_watched)
    _, errors = process.communicate(timeout=300)
    found = [tuple(json.loads(line)) for line in notes.read_text(encoding="utf-8").splitlines()]
    assert process.returncode == code, (found, errors)
    return found


def has(package: str) -> bool:
    return find_spec(package) is not None


def test_nothing_asks_the_network(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    w, run, data = workspace, workspace / "run", workspace / "data"
    trackers = [name for name in ("tensorboard", "wandb", "mlflow") if has(name)]
    figures = "--figures" if has("matplotlib") else "--no-figures"
    columns = ["--label", "label", "--text", "premise", "--text", "hypothesis"]
    (w / "input.txt").write_text("the dog\tthe dog\n", encoding="utf-8")
    study = write_study(w, settings=dict(option.split("=") for option in FAST) | {"tasks": ["same"]})
    commands: list[list[object]] = [
        ["init-task", data / "same_train.tsv", "--encoder", w / "encoder", "--output", w / "new.yml", *columns],
        ["prepare", w / "tasks.yml", "--data", data, "--encoder", w / "encoder", "--max-length", "32"],
        ["train", w / "run.yml", *FAST, "adversary.mode=vat", f"log.trackers={json.dumps(trackers)}"],
        ["evaluate", run],
        ["predict", run, "--input", w / "input.txt", "--output", w / "answers.jsonl"],
        ["embed", run, "--input", w / "input.txt", "--output", w / "vectors.npy"],
        ["distill", run, "--data", data, "--output", w / "soft"],
        ["load", run, "same", "the dog", "the cat"],
        ["export", run, "--output", w / "model"],
        ["export", run, "--output", w / "st", "--to", "sentence-transformers", "--encoder-only"],
        ["predict", w / "model", "--task", "same_pair", "--input", w / "input.txt", "--output", w / "again.jsonl"],
        ["train", w / "run.yml", *FAST, f"encoder.name={w / 'model'}", f"output={w / 'further'}"],
        ["sweep", study, "--runs", w / "runs"],
        ["report", study, "--runs", w / "runs"],
        ["runs", w / "runs"],
        ["analyze", "calibration", run, "--task", "same", "--output", w / "analyses", figures],
        ["config", w / "run.yml"],
        ["bench", "adversary", w / "run.yml", *FAST[:3], "--modes", "none", "--updates", "1", "--rounds", "1"],
    ]
    if has("peft"):
        adapted = w / "adapted"
        commands += [
            ["train", w / "run.yml", *FAST, "adapter.kind=lora", f"output={adapted}"],
            ["export", adapted, "--output", w / "adapter", "--encoder-only"],
            ["export", adapted, "--output", w / "merged", "--merge"],
        ]
    if has("accelerate"):
        options = ["--updates", "1", "--rounds", "1", "--no-memory"]
        commands.append(["bench", "throughput", w / "run.yml", *FAST[:3], *options])
    monkeypatch.delenv("WANDB_MODE", raising=False)
    found = watched(w, commands, 0)
    assert {Path(what).name for _, event, what in found if event == "subprocess.Popen"} <= STARTED
    assert [call for call in found if call[1] != "subprocess.Popen"] == []
    if has("wandb"):
        kept = [path.name.partition("run-")[0] for path in (run / "wandb").glob("*run-*") if not path.is_symlink()]
        assert kept and set(kept) == {"offline-"}


def test_an_encoder_of_the_hub_does(workspace: Path) -> None:
    """So the test above would see it."""
    train = ["train", workspace / "run.yml", "encoder.name=someone/encoder"]
    found = watched(workspace, [train], CALLED)
    assert [call[0] for call in found] == [f"train {train[1]}"] and "huggingface.co" in found[0][2]
