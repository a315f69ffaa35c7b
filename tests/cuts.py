"""Writes that end after so many bytes: the disk is full, or the process is killed."""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from data_utils.errors import NotSaved

CORRECT, NOT_SAVED, WRONG = 0, 1, 70


def cut(write: Callable[[], object], limit: int, *, killed: bool) -> int:
    """Calls ``write`` in a copy of this process in which no file can be longer than ``limit`` bytes.

    The write that goes beyond fails as on a full disk or, with ``killed``, ends the process.

    Returns:
        The exit code: 0 if ``write`` has returned, 1 if it has raised NotSaved. Minus the signal if it was killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # some versions of Python advise against a fork with threads
        pid = os.fork()
    if pid == 0:
        _child(write, limit, killed)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(write: Callable[[], object], limit: int, killed: bool) -> None:
    code = WRONG
    if "torch" in sys.modules:  # the threads of OpenMP are not in the copy, which would wait for them for ever
        sys.modules["torch"].set_num_threads(1)
    try:
        limit_files(limit, killed=killed)
        write()
        code = CORRECT
    except NotSaved:
        code = NOT_SAVED
    except BaseException:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def limit_files(limit: int, *, killed: bool) -> None:
    """Lets no file of this process become longer than ``limit`` bytes. See ``cut`` for a write that goes beyond."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if killed else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def cut_everywhere(write: Callable[[], object], folder: Path, *, cuts: int = 7) -> None:
    """Cuts ``write`` at many points. After each, every file of ``folder`` is the old one or the complete new one.

    ``folder`` holds the old files, which ``write`` replaces or leaves as they are. In the end the same call, not cut,
    has to write the new ones.
    """
    old = contents(folder)
    write()
    new = contents(folder)
    longest = max(len(new[name]) for name in new if new[name] != old.get(name))
    for limit in sorted({longest * number // cuts for number in range(cuts)} | {1, longest - 1}):
        for killed in (False, True):
            restore(folder, old)
            code = cut(write, limit, killed=killed)
            assert code == (-signal.SIGXFSZ if killed else NOT_SAVED), f"ended with {code} at byte {limit}"
            for name, content in contents(folder).items():
                assert content in (old.get(name), new.get(name)), f"{name} was cut at byte {limit}"
            if not killed:
                assert not list(folder.rglob(".*.tmp")), "a temporary file is left behind"
            write()
            assert contents(folder) == new, f"differs after a cut at byte {limit}"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder that are not temporary, by name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if ".tmp" not in name}


def restore(folder: Path, files: dict[str, bytes]) -> None:
    """Removes all files of a folder and writes these."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
