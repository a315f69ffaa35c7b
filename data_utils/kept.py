"""Keeps prepared rows in a folder, if it may be written, and checks what was kept there."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from data_utils.errors import READ_ONLY, UserError, os_errors
from data_utils.files import checksum, flush
from data_utils.prepared import Prepared

UNKEPT = "unkept"  # in the manifest of a split in memory: why it could not be kept


def writable(folder: Path) -> Path | None:
    """A folder, which is made if needed. None if it may not be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in READ_ONLY:
            return None
        raise
    return folder


def keep(folder: Path, split: Prepared) -> Prepared:
    """Keeps a split in a folder, and opens it from there. If the folder may not be written, the split stays in memory.

    Raises:
        NotSaved: the disk is full.
        UserError: the folder cannot be written, as one that is a file.
    """
    if problem := _write(folder, split.batch, split.manifest):
        return replace(split, path=folder, manifest={**split.manifest, UNKEPT: problem})
    return Prepared.open(folder)


def _write(folder: Path, batch: pa.RecordBatch, manifest: dict[str, Any]) -> str:
    """Writes the files into a temporary folder, flushes them to disk and renames the folder.

    Returns why nothing may be written there, as in a folder of data that is only read. Empty if it was written.
    """
    # Random, because processes in other containers, which share the cache, may have the same number as this one.
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")
    data = temporary / "data.arrow"
    with os_errors(folder, "prepared data cannot be written"):
        try:
            temporary.mkdir(parents=True)
            with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                writer.write_batch(batch)
            content = json.dumps({**manifest, "checksum": checksum(data)}, indent=1)
            (temporary / "manifest.json").write_text(content + "\n", encoding="utf-8")
            for path in (*temporary.iterdir(), temporary):
                flush(path)
            temporary.rename(folder)
        except OSError as error:
            if error.errno in READ_ONLY:
                return error.strerror or type(error).__name__
            if not folder.exists():  # else another process was faster; the content is the same
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return ""


def check_values(split: Prepared, classes: int | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that tokens and labels are numbers of this tokenizer and this task.

    ``classes``: how many labels the task has. None: labels are no classes.

    Raises:
        UserError: they are not, so something else has changed the kept files.
    """
    known = len(tokenizer)
    if len(split.tokens) and split.tokens.max() >= known:  # numbers of tokens may have gaps
        known = max(tokenizer.get_vocab().values()) + 1
    found = {"token": (split.tokens, known)}
    if classes is not None and split.labels is not None and split.decisions is None:
        found["label"] = (split.labels, classes)
    for name, (values, count) in found.items():
        if len(values) and not 0 <= values.min() <= values.max() < count:
            wrong = next(value for value in values.tolist() if not 0 <= value < count)
            raise UserError(f"{split.path}: prepared data is damaged ({name} {wrong}, of {count}); delete the folder")


def unkept(splits: Iterable[Prepared]) -> str:
    """Which folder could not keep splits, and why. Empty if all are kept."""
    first = next((split for split in splits if UNKEPT in split.manifest), None)
    return "" if first is None else f"{first.path.parent}: cannot be written ({first.manifest[UNKEPT]})"


def unkept_notice(splits: Iterable[Prepared]) -> list[str]:
    """One line about the splits that could not be kept, or none."""
    problem = unkept(splits)
    return [f"{problem}, so rows are prepared anew each time; data.cache sets another folder"] if problem else []
