"""The commands whose calls fail, and what they leave behind: everything that a command writes is in one folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from tests.study_files import write_study
from tests.workspace import make_workspace

FAST = ["tasks=[same]", "data.max_rows=16", "train.batch_size=8", "train.max_steps=4", "log.every_steps=2"]
TRAIN = [*FAST, "adversary.mode=tat", "checkpoint.every_steps=2", "evaluation.every_steps=2"]
OLD_FILES = ("notes.txt", ".notes.txt.tmp", "run/notes.txt", "run/checkpoints/mine/chapter.tex", "cache/notes.txt")
VARYING = ("seconds", "cpu_seconds", "cut_off", "examples_per_s", "tokens_per_s")
OWN = ("spent.json", ".lock", ".sweep.lock")  # about processes, not about results


@dataclass(frozen=True)
class Command:
    """A command of ``mt-dnn``.

    Args:
        arguments: its arguments, from the workspace (see ``prepare_workspace``) and the folder that it writes.
        begin: writes into this folder what has to be there before, from the same two.
        table: lines of its output that begin like this do not depend on what an earlier start has done. "": all.
        processes: how many are started. With more than one a launcher waits for them.
    """

    arguments: Callable[[Path, Path], Sequence[str]]
    begin: Callable[[Path, Path], object] = lambda workspace, out: None
    table: tuple[str, ...] = ("",)
    processes: int = 1


def _train(*options: str) -> Callable[[Path, Path], list[str]]:
    return lambda workspace, out: ["train", str(workspace / "run.yml"), f"output={out / 'run'}", *TRAIN, *options]


def _copy_rows(workspace: Path, out: Path) -> None:
    (out / "data").mkdir()
    for file in (workspace / "data").glob("same_*.tsv"):
        shutil.copyfile(file, out / "data" / file.name)


def _export(*options: str) -> Callable[[Path, Path], list[str]]:
    return lambda workspace, out: ["export", str(workspace / "trained"), "--output", str(out / "model"), *options]


COMMANDS = {
    "train": Command(_train(), table=("task ", "same ")),
    "train with an adapter": Command(_train("adapter.kind=lora", "adversary.mode=none"), table=("task ", "same ")),
    "train in 2 processes": Command(_train("--gpus", "2"), table=("task ", "same "), processes=2),
    "train with fsdp": Command(
        _train("--gpus", "2", "distributed.strategy=fsdp"), table=("task ", "same "), processes=2
    ),
    "prepare": Command(
        lambda workspace, out: [
            *("prepare", str(workspace / "tasks.yml"), "--data", str(workspace / "data")),
            *("--encoder", str(workspace / "encoder"), "--max-length", "32", "--cache", str(out / "cache")),
        ]
    ),
    "predict": Command(
        lambda workspace, out: [
            *("predict", str(workspace / "trained"), "--input", str(workspace / "input.txt")),
            *("--output", str(out / "answers.jsonl")),
        ]
    ),
    "distill": Command(
        lambda workspace, out: [
            *("distill", str(workspace / "trained"), "--data", str(out / "data"), "--output", str(out / "soft")),
        ],
        _copy_rows,
    ),
    "evaluate": Command(
        lambda workspace, out: ["evaluate", str(workspace / "trained"), "--data", str(out / "data")], _copy_rows
    ),
    "embed": Command(
        lambda workspace, out: [
            *("embed", str(workspace / "trained"), "--input", str(workspace / "input.txt")),
            *("--output", str(out / "vectors.safetensors")),
        ]
    ),
    "init-task": Command(
        lambda workspace, out: [
            *("init-task", str(workspace / "data" / "same_train.tsv"), "--label", "label", "--force"),
            *("--text", "premise", "--text", "hypothesis", "--encoder", str(workspace / "encoder")),
            *("--output", str(out / "alike.yml")),
        ]
    ),
    "sweep": Command(
        lambda workspace, out: ["sweep", str(workspace / "study.yml"), "--runs", str(out / "runs")],
        table=("2 of 2 runs",),
    ),
    "export": Command(_export()),
    "export for sentence-transformers": Command(_export("--to", "sentence-transformers", "--encoder-only")),
}


def prepare_workspace(folder: Path) -> None:
    """Writes what all commands read, but for the trained run. Call it in a process that ends soon: it makes threads."""
    make_workspace(folder, train_rows=24)
    (folder / "input.txt").write_text("the dog\tthe dog\na cat .\tthe old man\n" * 3, encoding="utf-8")
    settings = dict(option.split("=") for option in FAST) | {"tasks": ["same"]}
    write_study(folder, settings=settings)


def begin(command: Command, workspace: Path, out: Path) -> dict[str, bytes]:
    """Makes the folder that a command writes, with files of a user. Returns the files of the user by name."""
    for name in OLD_FILES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"the user's {name}", encoding="utf-8")
    command.begin(workspace, out)
    return files(out)


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files of a folder by name; of a link, its target."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in (*names, *folders):
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = os.fsencode(path.readlink())
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def results(found: dict[str, bytes]) -> dict[str, Any]:
    """The files without what depends on the clock and on processes."""
    kept = {name: content for name, content in found.items() if Path(name).name not in OWN and not is_temporary(name)}
    return {name: _without_times(name, content) for name, content in kept.items()}


def is_temporary(name: str) -> bool:
    """Whether a file, or a folder above it, is not complete or about to be removed. Those of the user are not."""
    parts = Path(name).parts
    hidden = any(part.startswith(".") and part.endswith((".tmp", ".old")) for part in parts)
    return name not in OLD_FILES and (hidden or parts[-1].endswith(".partial"))


def _without_times(name: str, content: bytes) -> Any:
    if name.endswith("metrics.jsonl"):
        return [_kept(json.loads(line)) for line in content.splitlines()]
    if Path(name).name.startswith("shard-"):  # with fsdp the order of tensors in a file depends on earlier starts
        return {tensor: sorted(part.items()) for tensor, part in safetensors.deserialize(content)}
    return _kept(json.loads(content)) if name.endswith("record.json") else content


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in VARYING}
