"""What a run computes, as a hash. It names the run's folder, so that studies share runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from data_utils.encoder_names import PACKAGE
from data_utils.rows import file_names
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import FREE_KEYS, FREE_KEYS_OF
from mt_dnn.runs.hashes import encoder_hashes, file_hash, start_hashes
from mt_dnn.tasks.run_tasks import Tasks, evaluated_tasks, training_tasks

# These settings say where things are, or what the run is called. What they point at is hashed by its content.
ELSEWHERE = ("name", *FREE_KEYS)
FOLDERS = (("encoder", "name"), ("encoder", "tokenizer"), ("train", "init_from"))  # settings that may be a path
LENGTH = 12  # of a hash, in hexadecimal digits


@dataclass(frozen=True)
class Identity:
    """What a run computes, as hashes.

    Args:
        config: its configuration.
        source: the run of the same study that it starts from. Then ``train.init_from`` is not read.
    """

    config: RunConfig
    source: Identity | None = None

    @cached_property
    def computed(self) -> dict[str, Any]:
        """What decides the result of a run, apart from rows and weights: tasks, and settings not at their default.

        Two runs with the same content compute the same on the same data. A setting that a later version adds does not
        change it.
        """
        values = self.config.model_dump(mode="json", exclude_defaults=True)
        for section, free in FREE_KEYS_OF.items():
            values[section] = {key: value for key, value in values.get(section, {}).items() if key not in free}
        for section, key in FOLDERS:
            if name := values.get(section, {}).get(key):
                values[section] = {**values[section], key: portable(name)}
        if self.source is not None:
            values["train"] = {**values["train"], "init_from": f"run {self.source.settings_id}"}
        values = {key: value for key, value in values.items() if key not in ELSEWHERE and value != {}}
        values["adversary"] = {"mode": self.config.adversary.mode, **values.get("adversary", {})}
        return {"settings": values, "tasks": _definitions(self.config.task_defs, self.config.tasks)}

    @cached_property
    def settings_id(self) -> str:
        """A hash of ``computed``. It can be made where the data are not."""
        return _hash(self.computed)

    @cached_property
    def run_id(self) -> str:
        """A hash of ``computed`` and of the content of rows and weights.

        Raises:
            UserError: a file of rows or weights cannot be read.
        """
        return _hash({**self.computed, "data": data_hashes(self.config), "encoder": self.weights})

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each file of weights that the run starts from. Of a source it is what that run computes."""
        start = start_hashes(self.config) if self.source is None else {"init_from": self.source.run_id}
        return {**encoder_hashes(self.config), **start}

    @property
    def name(self) -> str:
        """A name for people, followed by ``run_id``."""
        trained = list(run_tasks(self.config).trained)
        tasks = "-".join(trained) if len(trained) <= 3 else f"{trained[0]}-and-{len(trained) - 1}-more"
        return f"{tasks}-{self.config.adversary.mode}-seed{self.config.seed}-{self.run_id}"


def run_tasks(config: RunConfig) -> Tasks:
    """The tasks that the run trains and evaluates."""
    return _run_tasks(config.task_defs, config.tasks)


@lru_cache(maxsize=64)
def _run_tasks(file: Path, names: tuple[str, ...] | None) -> Tasks:
    defs: Mapping[str, TaskDef] = load_task_defs(file)
    trained = training_tasks(defs, names, str(file))
    return Tasks(trained, evaluated_tasks(defs, trained))


@lru_cache(maxsize=64)
def _definitions(file: Path, names: tuple[str, ...] | None) -> dict[str, Any]:
    """The settings of the evaluated tasks that are not at their default. It is not to be changed.

    ``files`` says where rows are. They are hashed by their content.
    """
    return {
        name: task.model_dump(mode="json", exclude_defaults=True, exclude={"files"})
        for name, task in _run_tasks(file, names).evaluated.items()
    }


def data_hashes(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each file of rows that the run reads, by ``<task>_<split>``."""
    found = {}
    for task, split in run_tasks(config).splits:
        for file in (config.data.dir / name for name in file_names(task, split)):
            if file.exists():
                found[f"{task.name}_{split}"] = file_hash(file)
    return found


def portable(name: str) -> str:
    """A path as it is written in every copy of a project: a folder below the working folder counts from there.

    The names of hubs and packages stay as they are.
    """
    if name.startswith(PACKAGE):
        return name
    path = Path(os.path.normpath(Path(name).expanduser()))
    return str(path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]
