"""Locks on disks without file locks: a file says which process holds the lock, and that it still does.

A heartbeat renews the time of the file. Others compare it with the time of a file that they write themselves, so only
the clock of the disk counts. To wait and see whether the file changes would need no clock, but two minutes for each
lock, and a sweep takes many. So before a lock is taken it is tried whether the disk keeps times.

``filelock.SoftFileLease`` (tried: 3.30.0, 4.1.0, 4.2.11) is not used. It may take the lock of a suspended process of
this machine, and that of a running process of another machine with the same name. It does not free the lock of a zombie
process. It watches each lock of another machine for the whole lease.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event, Thread
from typing import Any

from data_utils.errors import UserError

HEARTBEAT_S = 10.0  # seconds between two renewals
STALE_S = 120.0  # a lock that was not renewed for so long is that of a process that has ended
EARLIER = 1_000_000_000  # a time that every disk can keep, in 2001

_tokens: dict[Path, str] = {}  # of the locks that this process has taken


@contextmanager
def soft_lock(path: Path) -> Iterator[bool]:
    """Gives whether this process has got the lock. It has it until the end of the block, unless it is ``lost``.

    A lock is taken over if its process has ended. On the same machine that is known at once. The lock of a process
    that stands still there is never taken over. On other machines, and in other containers, the heartbeat decides.

    Raises:
        OSError: no file can be written there.
        UserError: the disk does not keep the times of files.
    """
    _check_times(path.parent)
    token = secrets.token_hex(8)
    if not _acquire(path, token):
        yield False
        return
    _tokens[path] = token
    ended = Event()
    thread = Thread(target=_renew, args=(path, token, ended), daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        del _tokens[path]
        with suppress(OSError):  # then it is stale as soon as this process has ended
            _remove(path, token)


def is_held(path: Path, *, may_write: bool = False) -> bool:
    """Whether a process has the lock.

    ``may_write``: asks the disk for the time, by writing a file. Otherwise nothing is written, and a lock of another
    machine is compared with the clock of this one.
    """
    return path.exists() and not _is_stale(path, _owner(path), may_write=may_write)


def lost(path: Path) -> bool:
    """Whether this process had taken the lock, and another one has taken it over since, because this one stood still.

    A lock that was removed is lost too: the other process may have ended already.
    """
    token = _tokens.get(path)
    with suppress(OSError):  # the disk does not answer, so nobody can write now
        return token is not None and _owner(path).get("token") != token
    return False


@cache
def _machine() -> dict[str, str]:
    """What tells this machine and its space of process numbers from others. Containers may share the host's name."""
    boot = space = ""
    with suppress(OSError):  # not Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")
    return {"host": socket.gethostname(), "boot": boot, "processes": space}


def _started(process: int) -> str:
    """When a process has started, in ticks since boot. Empty if it is not known."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "ended" if state in "ZX" else fields[18]
    except (OSError, ValueError, IndexError):
        return ""


def _lives(owner: dict[str, Any]) -> bool | None:
    """Whether the process of a lock runs, or stands still. None: it cannot be known here."""
    number, here = owner.get("process"), _machine()
    if any(not here[key] or owner.get(key) != here[key] for key in here) or not isinstance(number, int) or number < 1:
        return None
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no number of a process
        pass
    started = _started(number)
    return started == owner.get("started") if started else None  # another process may have got its number


def _create(path: Path, token: str) -> bool:
    owner = {**_machine(), "process": os.getpid(), "started": _started(os.getpid()), "token": token}
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(owner))
    except FileExistsError:
        return False
    return True


def _renew(path: Path, token: str, ended: Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):  # the next time it may work; if it never does, the lock is lost
            _beat(path, token)


def _beat(path: Path, token: str) -> None:
    """Renews the lock, if it is still that of this process."""
    if _owner(path).get("token") == token:
        os.utime(path)


def _owner(path: Path) -> dict[str, Any]:
    """What a lock says about its process: nothing if the lock is gone, is just being written, or is of somebody else.

    Raises:
        OSError: the disk does not answer, or this user may not read a lock of his own, as when a ticket for a network
            disk has expired.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    except PermissionError:
        if path.stat().st_uid == (os.geteuid() if hasattr(os, "geteuid") else 0):  # Windows says 0
            raise
        return {}
    return found if isinstance(found, dict) else {}


def _is_stale(path: Path, owner: dict[str, Any], *, may_write: bool) -> bool:
    lives = _lives(owner)
    if lives is not None:
        return not lives
    try:
        renewed = path.stat().st_mtime
    except OSError:  # it is gone
        return False
    return (_disk_time(path.parent) if may_write else time.time()) - renewed > STALE_S


def _disk_time(folder: Path) -> float:
    """The time by the clock of the disk: that of a new file."""
    with NamedTemporaryFile(dir=folder, prefix=".", suffix=".time") as probe:
        return os.fstat(probe.fileno()).st_mtime


@cache
def _check_times(folder: Path) -> None:
    """Raises UserError if a renewal of a lock would change no time on this disk."""
    with NamedTemporaryFile(dir=folder, prefix=".", suffix=".time") as probe:
        times = []
        for wanted in ((EARLIER, EARLIER), None):
            os.utime(probe.name, wanted)
            times.append(os.stat(probe.name).st_mtime)
        if not times[0] < EARLIER + STALE_S < times[1]:
            raise UserError(
                f"{folder}: cannot be locked (this disk has no file locks and keeps no times); choose another folder"
            )


def _acquire(path: Path, token: str) -> bool:
    """Takes the lock if it is free or stale. Only one process at a time may try: the one that has a second lock."""
    guard = path.with_name(f"{path.name}.takeover")
    if not _create_or_replace(guard, token):
        return False
    try:
        return _create_or_replace(path, token)
    finally:
        with suppress(OSError):
            _remove(guard, token)


def _create_or_replace(path: Path, token: str) -> bool:
    if _create(path, token):
        return True
    owner = _owner(path)
    stale = _is_stale(path, owner, may_write=True)
    return stale and _remove(path, owner.get("token")) and _create(path, token)


def _remove(path: Path, token: object) -> bool:
    """Removes the lock with this token. Returns whether it did.

    It gets a name of its own before it is removed. If it is another one by now, or cannot be read, it is put back.

    Raises:
        OSError: the disk does not answer.
    """
    moved = path.with_name(f"{path.name}.{secrets.token_hex(8)}.old")
    if _owner(path).get("token") != token:
        return False
    try:
        path.rename(moved)
    except FileNotFoundError:
        return False
    try:
        is_same = _owner(moved).get("token") == token
    except OSError:
        moved.replace(path)
        raise
    if not is_same:
        moved.replace(path)
        return False
    moved.unlink()
    return True
