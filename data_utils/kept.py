"""Keeps prepared rows in a folder, if it may be written."""

from __future__ import annotations

import errno
import json
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_utils.errors import os_errors
from data_utils.files import checksum, flush
from data_utils.prepared import Prepared

READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}  # why a folder may not be written
UNKEPT = "unkept"  # in the manifest of a split in memory: why it could not be kept


def keep(folder: Path, batch: pa.RecordBatch, manifest: dict[str, Any]) -> str:
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


def unkept_notice(splits: Iterable[Prepared]) -> list[str]:
    """One line about the splits that could not be kept, or none."""
    unkept = [split for split in splits if UNKEPT in split.manifest]
    if not unkept:
        return []
    folder, reason = unkept[0].path.parent, unkept[0].manifest[UNKEPT]
    return [
        f"{folder}: cannot be written ({reason}), so rows are prepared anew each time; data.cache sets another folder"
    ]
