"""Writers that are wrong in one way each, in place of ``data_utils.files.replacing``. The checks have to see them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from data_utils import files
from data_utils.errors import UserError, os_errors
from tests.faults.shim import BROKEN, FULL, KILLED

Writer = Callable[[Path], AbstractContextManager[Path]]


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.0123456789abcdef.tmp")


@contextmanager
def in_place(path: Path) -> Iterator[Path]:
    with os_errors(path, "cannot be written"):
        yield path


@contextmanager
def without_flush(path: Path) -> Iterator[Path]:
    with os_errors(path, "cannot be written"):
        yield _beside(path)
        _beside(path).replace(path)


@contextmanager
def without_tidying(path: Path) -> Iterator[Path]:
    with os_errors(path, "cannot be written"):
        yield _beside(path)
        files.flush(_beside(path))
        _beside(path).replace(path)


@contextmanager
def silent(path: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield _beside(path)
        files.flush(_beside(path))
        _beside(path).replace(path)
    _beside(path).unlink(missing_ok=True)


@contextmanager
def of_an_internal(path: Path) -> Iterator[Path]:
    try:
        with os_errors(_beside(path), "cannot be written"):
            yield _beside(path)
            files.flush(_beside(path))
            _beside(path).replace(path)
    finally:
        _beside(path).unlink(missing_ok=True)


@contextmanager
def as_a_bug(path: Path) -> Iterator[Path]:
    try:
        with of_an_internal(path) as temporary:
            yield temporary
    except UserError as error:
        raise RuntimeError("not written") from error


# A wrong writer, the call and the reason at which it is seen, and a part of what is said then.
WRITERS: dict[str, tuple[Writer, str, str, str]] = {
    "writes in place": (in_place, "write", KILLED, "is not complete"),
    "does not flush": (without_flush, "", "", "renamed before they were flushed"),
    "does not tidy up": (without_tidying, "write", BROKEN, "leaves "),
    "is silent": (silent, "fsync", FULL, "differs from that of an undisturbed run"),
    "names its temporary file": (of_an_internal, "fsync", BROKEN, "names an internal"),
    "raises something else": (as_a_bug, "rename", BROKEN, "a traceback"),
}


def use(writer: Writer) -> None:
    """Lets all modules of this process write in this way."""
    right = files.replacing
    for module in list(sys.modules.values()):
        if getattr(module, "replacing", None) is right and not os.path.samefile(module.__file__ or "/", files.__file__):
            module.replacing = writer  # type: ignore[attr-defined]
    files.replacing = writer  # type: ignore[assignment]
