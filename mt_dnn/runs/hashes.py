"""Hashes of files, and of what a run reads. A file that has not changed is hashed once in a process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from data_utils.encoder_names import PACKAGE, resolve_name
from data_utils.errors import os_errors
from mt_dnn.runs.checkpoints import find_checkpoint
from mt_dnn.runs.config import RunConfig

WEIGHTS = ("*.safetensors", "*.bin")
DESCRIPTIONS = ("*.json", "*.txt", "*.model")  # configuration, tokenizer, vocabulary


def encoder_hashes(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each file that the encoder and its tokenizer are read from.

    Empty if they come from a hub, or are new. Of a package only the weights count, because its files are released
    together.

    Raises:
        UserError: a file cannot be read.
    """
    hashes: dict[str, str] = {}
    for prefix, name in (("", config.encoder.name), ("tokenizer/", config.encoder.tokenizer)):
        folder = None if name is None else Path(resolve_name(name))
        if name is not None and folder is not None and folder.is_dir():
            patterns = (*(() if prefix else WEIGHTS), *(() if name.startswith(PACKAGE) else DESCRIPTIONS))
            hashes |= {f"{prefix}{file.name}": file_hash(file) for file in files_like(folder, patterns)}
    return hashes


def start_hashes(config: RunConfig) -> dict[str, str]:
    """SHA-256 of each file that ``train.init_from`` is read from. Empty if it is not set.

    Raises:
        UserError: a file cannot be read, or there is no checkpoint.
    """
    start = config.train.init_from
    if start is None:
        return {}
    if start.is_file():
        return {"init_from": file_hash(start)}
    start = find_checkpoint(start)
    files = [start / "heads.safetensors", *files_like(start / "encoder", (*WEIGHTS, *DESCRIPTIONS))]
    return {f"init_from/{file.relative_to(start)}": file_hash(file) for file in files}


def files_like(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of a folder whose names have one of the patterns, in the order of their names."""
    return sorted(file for pattern in patterns for file in folder.glob(pattern))


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
