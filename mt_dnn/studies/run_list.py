"""A list of run folders: what each of them trains, its score, and whether it has finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from data_utils.errors import UserError, os_errors
from data_utils.files import read_json, read_text
from data_utils.task_yaml import read_yaml
from mt_dnn.runs.evaluate import reads_loss
from mt_dnn.runs.folder import CONFIG, TASKS, FolderInUse, check_unlocked
from mt_dnn.studies.record_form import check_form
from mt_dnn.studies.records import read_record

SUMMARY = "summary.json"
State = Literal["finished", "failed", "running", "cut off", "unreadable"]


class _Mode(BaseModel):
    mode: str = "none"


class _Config(BaseModel):
    """What is read of the configuration of a run."""

    tasks: list[Any] | None = None
    adversary: _Mode | None = None
    seed: int = 1


class _Selection(BaseModel):
    metric: str | None = None
    score: float | None = None


class _Summary(BaseModel):
    """What is read of the summary of a run."""

    selection: _Selection | None = None


@dataclass(frozen=True)
class RunState:
    """A run folder.

    ``metric``: what has chosen the best model (``evaluation.metric``). ``score``: its score; a loss is negative. None:
    there is none yet.
    """

    folder: Path
    tasks: list[str]
    mode: str
    seed: int
    metric: str | None
    score: float | None
    state: State
    error: str = ""

    @property
    def score_text(self) -> str:
        """The score as a run prints it: a loss as it is, all others times 100."""
        if self.score is None:
            return ""
        return f"{-self.score:.4f}" if reads_loss(self.metric) else f"{100 * self.score:.2f}"


def run_states(folder: Path) -> Iterator[RunState]:
    """Yields all runs in a folder and in folders below it, in the order of their names.

    A run with a file that is damaged, or of another kind, is ``unreadable``; its ``error`` says why.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    for path, names, files in os.walk(folder):
        names.sort()
        if CONFIG in files:
            names.clear()  # a run folder has no runs in it; its checkpoints have configurations too
            try:
                yield _state(Path(path))
            except UserError as error:
                yield RunState(Path(path), [], "", 0, None, None, "unreadable", str(error))


def _state(folder: Path) -> RunState:
    config = read_yaml(folder / CONFIG, "configuration of a run")
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG}: is not the configuration of a run")
    check_form(_Config, config, f"{folder / CONFIG}", "restore this file, or remove the folder")
    record, summary = read_record(folder) or {}, _summary(folder / SUMMARY)
    selection = summary.get("selection") or {}
    error = record.get("error", "")
    state: State = "failed" if error else "finished" if summary else "cut off"
    try:
        check_unlocked(folder)
    except FolderInUse:
        state = "running"
    mode, seed = (config.get("adversary") or {}).get("mode", "none"), config.get("seed", 1)
    names = [str(task) for task in config.get("tasks") or _task_names(folder / TASKS)]
    return RunState(folder, names, mode, seed, selection.get("metric"), selection.get("score"), state, error)


def _task_names(file: Path) -> list[Any]:
    """The names of the tasks in the task file of a run. None if there is no file."""
    if not file.exists():
        return []
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: is no task file; restore it, or remove the folder")
    return list(content)


def _summary(file: Path) -> dict[str, Any]:
    """The summary of a run. Empty if there is no file."""
    if not file.exists():
        return {}
    with os_errors(file, "cannot be read"):
        content = read_json(read_text(file), str(file))
    check_form(_Summary, content, str(file), "restore this file, or remove the folder")
    return content
