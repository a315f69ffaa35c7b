"""Writes a file line by line, so that nothing is lost if the process ends in the midst of it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from filelock import lock_descriptor

from data_utils.errors import UserError, os_errors, tell
from data_utils.files import NO_LOCKS, flush


@contextmanager
def growing(path: Path) -> Iterator[Callable[[str], None]]:
    """Gives a function that appends a line to ``<path>.partial``. At the end of the block it takes the name ``path``.

    A line is in the file when the function returns. So whoever reads the partial file, or what a killed process has
    left of it, finds complete lines. When the block fails, a partial file with lines stays, and the message of a
    UserError names it. The first line of the next call with this path begins it anew. It is locked as long as the
    block runs.

    What is not a file, such as ``/dev/stdout``, is written itself. See also ``files.replacing``.

    Raises:
        NotSaved: the disk is full.
        UserError: the file cannot be written for another reason, or another process is writing it.
    """
    with os_errors(path, "cannot be written"), ExitStack() as stack:
        if path.exists() and not path.is_file():
            device = stack.enter_context(path.open("wb", buffering=0))
            yield lambda line: _append(device, line, regular=False)
            return
        final = path.resolve()
        partial = final.with_name(f"{final.name}.partial")
        stream = stack.enter_context(partial.open("ab", buffering=0))
        _lock(stream, partial)
        written = count()
        stack.enter_context(_explained(path, partial, written))
        yield lambda line: _append(stream, line, regular=True, anew=next(written) == 0)
        if next(written) == 0:
            stream.truncate(0)
        flush(partial)
        if final.exists():
            shutil.copymode(final, partial)
        partial.replace(final)
        flush(final.parent)


@contextmanager
def _explained(path: Path, partial: Path, written: Iterator[int]) -> Iterator[None]:
    """When the block fails, says in the message that there are lines in the partial file. Without lines it goes."""
    try:
        with os_errors(path, "cannot be written"):
            yield
    except BaseException as error:
        if partial.is_file() and partial.stat().st_size == 0:
            partial.unlink()
        elif partial.is_file() and next(written) and isinstance(error, UserError):
            raise type(error)(f"{error}; what was written before is in {path}.partial") from None
        raise


def _lock(stream: io.FileIO, path: Path) -> None:
    """Locks the file that was opened at the path until the stream is closed. On a disk without file locks it says so.

    Raises UserError if another process has it locked, or has just renamed it. An empty file that cannot be locked goes.
    """
    try:
        locked = lock_descriptor(stream.fileno(), blocking=False)
    except OSError as error:
        if error.errno in NO_LOCKS:
            tell(f"{path}: this disk has no file locks; let no other process write it")
            return
        if path.stat().st_size == 0:
            path.unlink()
        raise
    if not (locked and path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat())):
        raise UserError(f"{path}: another process is writing it; wait for it, or choose another output")


def _append(stream: io.FileIO, line: str, *, regular: bool, anew: bool = False) -> None:
    """Appends all of the line, or nothing if this fails and the stream is a file. ``anew``: empties the file before."""
    content = f"{line}\n".encode()
    if anew:
        stream.truncate(0)
        stream.seek(0)
    start = stream.tell() if regular else 0
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[stream.write(rest) :]
    except BaseException:
        if regular:
            stream.truncate(start)
        raise
