"""Writes folders that are complete or absent."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_utils.errors import UserError, os_errors
from data_utils.files import flush
from mt_dnn.runs.checkpoint import flush_tree


def check_new(folder: Path) -> None:
    """Raises UserError if there is a file of this name, or a folder with something in it."""
    with os_errors(folder, "cannot be read"):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder}: exists already; choose another --output or delete it")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives the path of a temporary folder beside ``folder``. At the end of the block it takes this name.

    It is flushed to disk before it is renamed. When the block fails, the temporary folder is removed.
    An OSError of the block that is not one of this folder stays what it is.

    Raises:
        NotSaved: the disk is full.
        UserError: the folder exists and is not empty, or cannot be written for another reason.
    """
    check_new(folder)
    final = folder.resolve()
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    problem = "cannot be written"
    try:
        with os_errors(folder, problem):
            temporary.mkdir(parents=True)
        with os_errors(folder, problem, written=temporary):
            yield temporary
        with os_errors(folder, problem):
            flush_tree(temporary)
            temporary.rename(final)
            flush(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
