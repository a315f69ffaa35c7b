"""Locks on disks without file locks: a file says which process holds the lock, and that it still does."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

HEARTBEAT_S = 10.0  # seconds between two renewals
STALE_S = 120.0  # a lock that was not renewed for so long is that of a process that has ended


@contextmanager
def soft_lock(path: Path) -> Iterator[bool]:
    """Gives whether this process has got the lock. It has it until the end of the block.

    A lock is taken over if its process has ended: at once on the same machine, else after ``STALE_S``. Only the clock
    of the disk counts, so machines may have other times.

    Raises:
        OSError: no file can be written there.
    """
    token = secrets.token_hex(8)
    if not (_create(path, token) or (_take_over(path) and _create(path, token))):
        yield False
        return
    ended = Event()
    thread = Thread(target=_renew, args=(path, token, ended), daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        if _owner(path).get("token") == token:
            path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether a process has the lock."""
    return path.exists() and not _is_stale(path)


def _create(path: Path, token: str) -> bool:
    owner = {"host": socket.gethostname(), "process": os.getpid(), "token": token}
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(owner))
    except FileExistsError:
        return False
    return True


def _renew(path: Path, token: str, ended: Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):  # the next time it may work
            if _owner(path).get("token") == token:
                os.utime(path)


def _owner(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is just being written, or gone
        return {}
    return found if isinstance(found, dict) else {}


def _is_stale(path: Path) -> bool:
    owner = _owner(path)
    number = owner.get("process")
    if owner.get("host") == socket.gethostname() and isinstance(number, int) and os.name == "posix":
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # it is another user's, or no number of a process
            pass
    with suppress(OSError):  # it is gone, or the folder may only be read
        return _now(path.parent) - path.stat().st_mtime > STALE_S
    return False


def _now(folder: Path) -> float:
    """The time by the clock of the disk."""
    probe = folder / f".{secrets.token_hex(8)}.time"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _take_over(path: Path) -> bool:
    """Removes the lock if it is stale. Returns whether it did. Only one process at a time may try."""
    guard = path.with_name(f"{path.name}.takeover")
    if guard.exists() and _now(path.parent) - guard.stat().st_mtime > STALE_S:
        guard.unlink(missing_ok=True)
    try:
        guard.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        if not _is_stale(path):
            return not path.exists()
        path.unlink(missing_ok=True)
        return True
    finally:
        guard.unlink(missing_ok=True)
