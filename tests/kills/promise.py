"""What must be true of a run folder after a kill, and when the run has ended after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from data_utils.task_def import load_task_defs
from mt_dnn.runs.checkpoints import checkpoints, find_checkpoint, last_checkpoint
from mt_dnn.runs.config_file import load_config
from tests.kills.starts import Failure, Start

TIMINGS = ("examples_per_s", "tokens_per_s")
EVERY_STEPS = 3  # checkpoint.every_steps of all runs; log.every_steps is 1
FOREIGN = (
    "notes.txt",
    "best.bak",
    "metrics.csv",
    "predictions/mine.txt",
    "adversary/notes.md",
    "checkpoints/my-thesis/chapter.tex",
    "checkpoints/step-00000003.bak/heads.safetensors",
    "checkpoints/.step-3.tmp",
)


def plant(folder: Path) -> None:
    """Writes files of a user into a folder that will be a run folder."""
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the user's {name}")


def check_foreign(folder: Path) -> None:
    for name in FOREIGN:
        if not (folder / name).is_file() or (folder / name).read_text() != f"the user's {name}":
            raise Failure(f"{folder / name}: was changed or deleted")


def check_exit(start: Start, folder: Path) -> str:
    """Exit code 0 means finished or saved, and no other end is bad input or a traceback. Returns which it was."""
    printed, last = start.printed(), last_checkpoint(folder)
    # Python itself prints a traceback for Ctrl-C before the command runs.
    if start.code == 2 or printed.count("Traceback") > printed.count("\nKeyboardInterrupt"):
        raise Failure(f"exit code {start.code}; see {start.log}")
    if (folder / "summary.json").exists():
        return "finished"
    state = json.loads((last / "trainer" / "state.json").read_text())["progress"] if last is not None else None
    if state is not None and (state["finished"] or f"stopped after update {state['position']['step']};" in printed):
        return "saved"
    if start.code == 0:
        raise Failure(f"exit code 0, but nothing was saved; see {start.log}")
    return f"at most {EVERY_STEPS} updates lost"


def check_complete(folder: Path, step_before: int) -> int:
    """Every file is whole, and only the updates since the last checkpoint are lost. Returns the last saved update."""
    for checkpoint in checkpoints(folder).values():
        read_tensors(checkpoint)
        json.loads((checkpoint / "trainer" / "state.json").read_text())
        load_config(checkpoint / "config.yml")
        load_task_defs(checkpoint / "task_defs.yml")
    for name in ("config.yml", "task_defs.yml"):
        if (folder / name).exists() and not isinstance(yaml.safe_load((folder / name).read_text()), dict):
            raise Failure(f"{folder / name}: cut off")
    for file in [*folder.glob("summary.json"), *folder.glob("adversary/*.json")]:
        json.loads(file.read_text())
    for file in folder.glob("predictions/*.jsonl"):
        _ = [json.loads(line) for line in file.read_text().splitlines()]
    step = max(checkpoints(folder), default=0)
    log = folder / "metrics.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []  # the last one may be cut off
    made = max((json.loads(line)["step"] for line in lines), default=0)
    if step < step_before or step < (made - 1) // EVERY_STEPS * EVERY_STEPS:
        raise Failure(f"{folder}: {made} updates were made, {step_before} were saved before, now {step} are saved")
    if step:
        find_checkpoint(folder)
    return step


def read_tensors(checkpoint: Path) -> dict[str, Any]:
    """All tensors of a checkpoint by file and name."""
    tensors = {}
    for file in sorted(checkpoint.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118, no mapping
                tensors[f"{file.relative_to(checkpoint)}:{name}"] = opened.get_tensor(name)
    return tensors


def outcome(start: Start, folder: Path) -> dict[str, Any]:
    """Everything that a finished run leaves behind and prints, without the figures that depend on the clock."""
    if start.code != 0 or not (folder / "summary.json").exists():
        raise Failure(f"the run did not end: exit code {start.code}; see {start.log}")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = last_checkpoint(folder)
    assert last is not None
    return {
        "log": [{key: value for key, value in record.items() if key not in TIMINGS} for record in records],
        "summary": json.loads((folder / "summary.json").read_text()),
        "predictions": {path.name: path.read_text() for path in folder.glob("predictions/*.jsonl")},
        "tallies": {path.name: path.read_text() for path in folder.glob("adversary/*.json")},
        "best": find_checkpoint(folder).name,
        "link": (folder / "best").resolve().name,
        "table": [line for line in start.printed().splitlines() if line.startswith(("task ", "same "))],
        "weights": read_tensors(last),
    }


def check_same(found: dict[str, Any], undisturbed: dict[str, Any], log: Path) -> None:
    """Compares two outcomes, bit for bit."""
    weights, expected = found["weights"], undisturbed["weights"]
    different = [key for key in undisturbed if key != "weights" and found[key] != undisturbed[key]]
    if weights.keys() != expected.keys() or any(not weights[name].equal(expected[name]) for name in expected):
        different.append("weights")
    if different:
        raise Failure(f"{', '.join(different)} differ from those of an undisturbed run; see {log}")
