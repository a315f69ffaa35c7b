"""What a run computes, as a hash. It names the run's folder, so that studies share runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_utils.encoder_names import resolve_name
from data_utils.errors import os_errors
from data_utils.rows import EXTENSIONS
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import FREE_KEYS, FREE_KEYS_OF
from mt_dnn.tasks.run_tasks import Tasks, evaluated_tasks, training_tasks

# These settings say where things are, or what the run is called. What they point at is hashed by its content.
ELSEWHERE = ("name", "task_defs", *FREE_KEYS)
ELSEWHERE_IN = {"data": ("dir", "cache"), "checkpoint": ("every_steps",)}
LENGTH = 12  # of a hash, in hexadecimal digits


def computed(config: RunConfig) -> dict[str, Any]:
    """What decides the result of a run, apart from rows and weights: settings that are not at their default, and tasks.

    Two runs with the same content compute the same on the same data. A setting that a later version adds does not
    change it.
    """
    values = config.model_dump(mode="json", exclude_defaults=True)
    for section in {**FREE_KEYS_OF, **ELSEWHERE_IN}:
        free = (*FREE_KEYS_OF.get(section, ()), *ELSEWHERE_IN.get(section, ()))
        values[section] = {key: value for key, value in values.get(section, {}).items() if key not in free}
    values = {key: value for key, value in values.items() if key not in ELSEWHERE and value != {}}
    values["adversary"] = {"mode": config.adversary.mode, **values.get("adversary", {})}
    defs = {
        name: task.model_dump(mode="json", exclude_defaults=True) for name, task in run_tasks(config).evaluated.items()
    }
    return {"settings": values, "tasks": defs}


def settings_id(config: RunConfig) -> str:
    """A hash of ``computed``. It can be made where the data are not."""
    return _hash(computed(config))


def run_id(config: RunConfig) -> str:
    """A hash of ``computed`` and of the content of rows and weights.

    Raises:
        UserError: a file of rows or weights cannot be read.
    """
    return _hash({**computed(config), "data": data_hashes(config), "encoder": encoder_hashes(config)})


def run_name(config: RunConfig) -> str:
    """A name for people, followed by ``run_id``."""
    trained = list(run_tasks(config).trained)
    tasks = "-".join(trained) if len(trained) <= 3 else f"{trained[0]}-and-{len(trained) - 1}-more"
    return f"{tasks}-{config.adversary.mode}-seed{config.seed}-{run_id(config)}"


def run_tasks(config: RunConfig) -> Tasks:
    """The tasks that the run trains and evaluates."""
    return _run_tasks(config.task_defs, config.tasks)


@lru_cache(maxsize=64)
def _run_tasks(file: Path, names: tuple[str, ...] | None) -> Tasks:
    defs: Mapping[str, TaskDef] = load_task_defs(file)
    trained = training_tasks(defs, names, str(file))
    return Tasks(trained, evaluated_tasks(defs, trained))


def data_hashes(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each file of rows that the run reads, by ``<task>_<split>``."""
    found = {}
    for task, split in run_tasks(config).splits:
        for extension in (f"{name}{packed}" for name in EXTENSIONS for packed in ("", ".gz")):
            file = config.data.dir / f"{task.name}_{split}.{extension}"
            if file.exists():
                found[f"{task.name}_{split}"] = file_hash(file)
    return found


def encoder_hashes(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each file of the encoder's weights. Empty if they come from a hub, or are new."""
    name = config.encoder.name
    folder = None if name is None else Path(resolve_name(name))
    files = [] if folder is None or not folder.is_dir() else [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    hashes = {file.name: file_hash(file) for file in sorted(files)}
    start = config.train.init_from
    if start is not None:
        files = [start] if start.is_file() else sorted(start.rglob("*.safetensors"))
        hashes |= {str(file): file_hash(file) for file in files}
    return hashes


def file_hash(file: Path) -> str:
    """SHA-256 of a file. It is computed again when the file has changed."""
    with os_errors(file, "cannot be read"):
        stat = file.stat()
        return _file_hash(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_hash(file: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]
