"""The run folder: checks which run it holds, and lets only one process at a time train into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

from data_utils.errors import UserError, os_errors, tell
from data_utils.files import NO_LOCKS, replacing
from data_utils.task_def import TaskDef, dump_task_defs, load_task_defs
from data_utils.task_yaml import read_yaml
from mt_dnn.runs.checkpoint import read_state
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import differences, dump_config, load_config
from mt_dnn.runs.damaged import damaged
from mt_dnn.runs.soft_lock import is_held, lost, soft_lock

CONFIG, TASKS, LOCK = "config.yml", "task_defs.yml", ".lock"
SOFT = ".owner"  # ending of the file that is a lock where there are no file locks
WRITTEN = (
    TASKS,
    "base/*",
    "environment.json",
    "tracking.json",
    "metrics.jsonl",
    "summary.json",
    "predictions/*.jsonl",
    "adversary/*.json",
)

# Keys that may change between a run and its resumption, because they change no result. Rows and task definitions may
# be elsewhere, because a resumption compares their content.
FREE_KEYS = ("device", "distributed", "log", "output", "task_defs")
FREE_KEYS_OF = {
    "checkpoint": ("every_steps", "keep_optimizer"),
    "data": ("dir", "cache", "max_unknown_share"),
    "train": ("activation_checkpointing", "apex_layer_norm", "compile", "fast_paths"),
    "evaluation": ("batch_tokens", "batch_size", "predictions"),
}
FREE_WHEN_FINISHED = ("epochs", "max_steps")  # keys of the section train: a finished run may go on


class FolderInUse(UserError):
    """Another process trains into a run folder."""


def check_same_config(config: RunConfig) -> None:
    """Raises UserError when the output folder holds a run of another configuration, or files that are of no run."""
    file = _kept(config.output, CONFIG)
    if file is None:
        _check_empty(config.output)
        return
    raw = read_yaml(file, "configuration of a run")
    if not isinstance(raw, dict) or not all(isinstance(raw.get(section), dict) for section in FREE_KEYS_OF):
        raise UserError(f"{file}: is not the configuration of a run; choose another output= or move this file away")
    old = load_config(file).model_dump(mode="json")  # with defaults of keys that were added since
    new = config.model_dump(mode="json")
    free_keys = dict(FREE_KEYS_OF)
    if _is_finished(config.output):
        free_keys["train"] += FREE_WHEN_FINISHED
    _take_folders_together(old, new)
    for values in (old, new):
        for section, free in free_keys.items():
            values[section] = {key: value for key, value in values[section].items() if key not in free}
    kept, asked = ({key: value for key, value in values.items() if key not in FREE_KEYS} for values in (old, new))
    changed = list(differences(kept, asked))
    if changed:
        raise UserError(
            f"{config.output}: holds a run of another configuration ({changed[0]}); choose another output= or delete it"
        )


def _take_folders_together(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Writes ``train.init_from`` alike where it means the same folder, also if it has moved together with the run."""
    before, now = old["train"]["init_from"], new["train"]["init_from"]
    if before is None or now is None:
        return
    moved = os.path.relpath(before, old["output"]) == os.path.relpath(now, new["output"])
    if moved or os.path.abspath(before) == os.path.abspath(now):
        old["train"]["init_from"] = now


def _kept(folder: Path, name: str) -> Path | None:
    """The file of this name in the run folder. If it was deleted, its copy in the last checkpoint, if there is one.

    Raises:
        UserError: the last checkpoint lacks its copy.
    """
    if (folder / name).exists():
        return folder / name
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None and not (checkpoint / name).exists():
        raise damaged(checkpoint / name, FileNotFoundError("no such file"))
    return checkpoint and checkpoint / name


def check_not_of_run(output: Path, option: str = "--output") -> None:
    """Raises UserError for an output that is a file of a run or of its checkpoints, which it would replace.

    Other files in a run folder may be replaced. ``option``: that names the output.
    """
    with os_errors(output, "cannot be written"):
        file = output.resolve()
        if not file.is_file():
            return
        for folder in file.parents:
            name = file.relative_to(folder)
            written = name.parts[0] == "checkpoints" or any(name.match(pattern) for pattern in (CONFIG, *WRITTEN))
            if written and (folder / CONFIG).is_file() and (folder / "checkpoints").is_dir():
                raise UserError(
                    f"{output}: belongs to the run {folder}, and would be replaced; choose another {option}"
                )


def _check_empty(folder: Path) -> None:
    """Raises UserError if a folder without a run holds a file that a run would replace. So nothing foreign is lost."""
    found = [path for pattern in WRITTEN for path in sorted(folder.glob(pattern))]
    if found:
        raise UserError(f"{found[0]}: is of no run of this folder; move it away or choose another output=")


def _is_finished(folder: Path) -> bool:
    """Whether the last checkpoint of a run was saved at its end."""
    checkpoint = last_checkpoint(folder)
    return checkpoint is not None and bool(read_state(checkpoint)["progress"]["finished"])


def check_same_tasks(folder: Path, tasks: Mapping[str, TaskDef]) -> None:
    """Raises UserError when the folder holds a run with other tasks or other definitions of these tasks.

    The rows may have moved to files of other names. Whether they are the same is checked by their content.
    """
    file = _kept(folder, TASKS)
    old, new = _without_files(tasks if file is None else load_task_defs(file)), _without_files(tasks)
    for name in {**old, **new}:
        if name not in new:
            problem = f"that has the task {name}, whose training rows or definition are gone; put them back, or"
        elif name not in old:
            problem = f"without the task {name}; take away its training rows or definition, or"
        elif old[name] != new[name]:
            problem = f"with another definition of {name};"
        else:
            continue
        raise UserError(f"{folder}: holds a run {problem} choose another output=")


def _without_files(tasks: Mapping[str, TaskDef]) -> dict[str, TaskDef]:
    return {name: task.model_copy(update={"files": {}}) for name, task in tasks.items()}


def write_inputs(folder: Path, config: RunConfig, tasks: Mapping[str, TaskDef]) -> None:
    """Writes ``config.yml`` and ``task_defs.yml`` into the run folder.

    A file that exists stays as it is, unless a finished run goes on for more updates, or the rows are elsewhere.
    """
    file = folder / CONFIG
    old = load_config(file) if file.exists() else None
    if (
        old is None
        or (old.data, old.task_defs) != (config.data, config.task_defs)
        or any(getattr(old.train, key) != getattr(config.train, key) for key in FREE_WHEN_FINISHED)
    ):
        dump_config(config, file)
    if not (folder / TASKS).exists() or load_task_defs(folder / TASKS) != tasks:
        dump_task_defs(tasks, folder / TASKS)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, and makes its folder if needed. The file is complete or absent."""
    check_not_lost(path.parent)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Makes the run folder. During the block no other process can train into it.

    On a disk without file locks, a file with a heartbeat takes their place (soft_lock.py).
    ``name``: of the file that is locked. A lock of another name excludes only those who take the same.

    Raises:
        UserError: the folder cannot be made, or another process trains into it.
    """
    with os_errors(folder, "cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / name).open("a")  # a file of this name that somebody else has written keeps its content
    owner = folder / f"{name}{SOFT}"
    with stream, ExitStack() as stack:
        by_system = _lock(stream, folder)
        with os_errors(folder, "cannot be locked"):
            # Another machine may see the same disk without file locks.
            free = not is_held(owner, may_write=True) if by_system else stack.enter_context(soft_lock(owner))
        if not free:
            raise in_use(folder)
        if not by_system:
            _say_once()
        yield


def check_unlocked(folder: Path) -> None:
    """Raises UserError when another process trains into the folder, because its files may change any moment.

    Writes nothing.
    """
    if (folder / LOCK).exists():
        with os_errors(folder / LOCK, "cannot be read"):
            stream = (folder / LOCK).open()
        with stream:
            _lock(stream, folder)
            if is_held(folder / f"{LOCK}{SOFT}"):
                raise in_use(folder)


def check_not_lost(folder: Path) -> None:
    """Raises FolderInUse when this process has locked the run folder and another process has taken it over since.

    That can only be on a disk without file locks, where the heartbeat of a process that stands still stops. A run calls
    this before it writes.
    """
    if lost(folder / f"{LOCK}{SOFT}"):
        raise FolderInUse(
            f"{folder}: {LOCK}{SOFT} was removed, or another process has taken over this folder; this one stops and "
            "writes nothing more into it"
        )


def _lock(stream: IO[str], folder: Path) -> bool:
    """Locks a file until it is closed. False: the disk has no file locks."""
    try:
        held = lock_descriptor(stream.fileno(), blocking=False)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise UserError(f"{folder}: cannot be locked ({error.strerror or error}); choose another folder") from None
    if not held:
        raise in_use(folder)
    return True


def in_use(folder: Path) -> FolderInUse:
    return FolderInUse(
        f"{folder}: another process is training into this folder; wait for it, or choose another output="
    )


@cache
def _say_once() -> None:
    tell(f"this disk has no file locks; a file {LOCK}{SOFT} says instead which process is in a folder")
