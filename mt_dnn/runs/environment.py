"""``environment.json``: what a run was made with. It has an entry for each start of the run that differs from the last.

An entry has the versions of packages, the machine, the commit of this code, the command, and hashes of rows and
encoder.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from data_utils.errors import UserError
from data_utils.files import read_text
from data_utils.secret_texts import without_secrets
from mt_dnn.distributed.ranks import world_size
from mt_dnn.encoders.pretrained import commit_on_hub
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import write_json
from mt_dnn.runs.hashes import encoder_hashes, start_hashes
from mt_dnn.runs.start import Parts

FILE = "environment.json"
PACKAGES = ("mt-dnn", "torch", "transformers", "tokenizers", "datasets", "safetensors", "numpy", "scikit-learn", "peft")


def write_environment(folder: Path, config: RunConfig, parts: Parts) -> None:
    """Notes this start of a run in its folder. The first start of a run removes what is there."""
    step = parts.progress.position.step
    starts = read_environment(folder) if step else []
    # What a resumed run of an earlier version has read may be gone, or another one by now.
    origin = encoder_name if step else encoder_origin
    encoder = starts[0].get("encoder") if starts else origin(config)  # it is read once
    entry = {"step": step, **environment(parts), "encoder": encoder}
    if not starts or {**starts[-1], "step": step} != entry:
        write_json(folder / FILE, [*starts, entry])


def read_environment(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run folder, the first start first. Empty if there are none that can be read."""
    try:
        found = json.loads(read_text(folder / FILE))
    except (OSError, ValueError, RecursionError, UserError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def environment(parts: Parts) -> dict[str, Any]:
    """What the run is made with now."""
    device = torch.cuda.get_device_name(parts.device) if parts.device.type == "cuda" else parts.device.type
    name, changed = revision()
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *map(without_secrets, sys.argv[1:])]),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": device,
            "processes": world_size(),
        },
        "git": {"revision": name, "dirty": changed} if name else None,
        "data": {f"{task}/{split}": rows.manifest["rows_sha256"] for (task, split), rows in parts.splits.items()},
    }


@cache  # a study makes many runs in a process
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def encoder_name(config: RunConfig) -> dict[str, Any]:
    """What the configuration says of the encoder. With ``init_from`` the name is only that of the tokenizer."""
    found: dict[str, Any] = {"name": config.encoder.name}
    if config.encoder.revision is not None:
        found["revision"] = config.encoder.revision
    if config.train.init_from is not None:
        found["init_from"] = str(config.train.init_from)
    return found


def encoder_origin(config: RunConfig) -> dict[str, Any]:
    """The name of the encoder of a new run, and SHA-256 of its files, or the commit on the hub that they come from."""
    found = encoder_name(config)
    if config.encoder.name is not None and (commit := commit_on_hub(config.encoder.name, config.encoder.revision)):
        found["commit"] = commit
    return {**found, "sha256": {**encoder_hashes(config), **start_hashes(config)}}


@lru_cache
def revision() -> tuple[str, bool]:
    """The git commit of this code, and whether files have changed since. Empty where git does not know the code.

    An installed package may lie within a repository of the user, which says nothing about it.
    """
    file = Path(__file__)
    folder = file.parent
    try:
        known = subprocess.run(["git", "ls-files", "--error-unmatch", file.name], cwd=folder, capture_output=True)
        if known.returncode != 0:
            return "", False
        names = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True)
    except OSError:
        return "", False
    return (names.stdout.strip(), bool(changes.stdout.strip())) if names.returncode == 0 else ("", False)


@lru_cache
def processor() -> str:
    """The name of the processor, as Linux gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
