"""Locks without file locks: one process at a time, and a lock is taken over when its process has ended."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.runs import soft_lock as module
from mt_dnn.runs.soft_lock import is_held, lost, soft_lock
from tests.cuts import cut

UNLIMITED = 1 << 40


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which machine and processes there are")
HERE: dict[str, Any] = dict(module._machine())


def owned(path: Path, *, age_s: float = 0.0, **owner: Any) -> None:
    """Writes the lock of another process, last renewed so long ago."""
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "token": "other", **owner}))
    os.utime(path, (time.time() - age_s,) * 2)


def ended_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with soft_lock(path) as held:
        owner = json.loads(path.read_text())
        assert held and is_held(path)
        assert (owner["host"], owner["process"]) == (socket.gethostname(), os.getpid())
        with soft_lock(path) as again:
            assert not again
        assert is_held(path)
    assert not is_held(path) and not list(tmp_path.iterdir())


@linux
def test_the_lock_of_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def killed() -> None:
        lock = soft_lock(path)
        assert lock.__enter__()
        os.kill(os.getpid(), 9)

    assert cut(killed, UNLIMITED, killed=False) == -9
    assert path.exists() and not is_held(path)
    with soft_lock(path) as held:
        assert held and json.loads(path.read_text())["process"] == os.getpid()


@pytest.mark.parametrize(("age_s", "taken"), [(0.0, False), (module.STALE_S - 20, False), (module.STALE_S + 20, True)])
def test_the_lock_of_another_machine_is_taken_over_when_its_heart_has_stopped(
    age_s: float, taken: bool, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    owned(path, age_s=age_s)
    assert is_held(path) is not taken
    with soft_lock(path) as held:
        assert held is taken
    assert path.exists() is not taken  # the lock of another process stays


@linux
@pytest.mark.parametrize("other", ["host", "boot", "processes"])
def test_a_number_of_a_process_says_nothing_about_another_machine_or_container(other: str, tmp_path: Path) -> None:
    """Containers with the network of the host have its name, and see other processes."""
    path, ended = tmp_path / "lock", ended_process()
    owned(path, **{**HERE, other: "other"}, process=ended)
    assert is_held(path)
    owned(path, **{**HERE, other: "other"}, process=os.getpid(), started=module._started(os.getpid()), age_s=1000)
    assert not is_held(path)


@linux
def test_a_process_of_this_machine_that_stands_still_keeps_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    owned(path, **HERE, process=os.getpid(), started=module._started(os.getpid()), age_s=1000)
    assert is_held(path)
    with soft_lock(path) as held:
        assert not held
    owned(path, **HERE, process=os.getpid(), started="1")  # another process has got its number since
    assert not is_held(path)


@linux
def test_a_process_that_nobody_has_waited_for_has_ended() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert module._started(pid) == "ended" and module._started(os.getpid()).isdigit()
    os.waitpid(pid, 0)


def test_a_lock_is_renewed_as_long_as_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    path = tmp_path / "lock"
    with soft_lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0 and is_held(path)


def test_a_lock_that_another_process_has_taken_over_is_lost(tmp_path: Path) -> None:
    """This process was stopped for long. The heartbeat of this lock has not begun when the block ends."""
    path = tmp_path / "lock"
    assert not lost(path)
    with soft_lock(path):
        token = json.loads(path.read_text())["token"]
        os.utime(path, (0, 0))
        module._beat(path, token)
        assert path.stat().st_mtime > 0 and not lost(path)
        path.unlink()
        assert lost(path)
        owned(path, age_s=1000)
        module._beat(path, token)
        assert path.stat().st_mtime < time.time() - 900 and lost(path)
    assert json.loads(path.read_text())["token"] == "other" and not lost(path)


@pytest.mark.parametrize(
    ("error", "user", "is_lost"),
    [
        (OSError(5, "EIO"), os.geteuid(), False),
        (PermissionError(13, "EACCES"), os.geteuid(), False),
        (PermissionError(13, "EACCES"), os.geteuid() + 1, True),
    ],
)
def test_a_disk_that_does_not_answer_loses_no_lock(
    error: OSError, user: int, is_lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of another user that may not be read has been taken over. To one's own the right may come back."""
    path = tmp_path / "lock"

    def failing(_: Path) -> bytes:
        raise error

    with soft_lock(path), monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        patched.setattr("os.geteuid", lambda: user)
        assert lost(path) is is_lost


@linux
def test_two_do_not_take_over_at_once(tmp_path: Path) -> None:
    path, guard = tmp_path / "lock", tmp_path / "lock.takeover"
    ended = {**HERE, "process": ended_process()}
    owned(path, **ended)
    owned(guard)
    with soft_lock(path) as held:
        assert not held
    owned(guard, **ended)  # that process has ended too
    with soft_lock(path) as held:
        assert held
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["lock", "lock.takeover"])
def test_a_lock_that_was_replaced_since_it_was_found_stale_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    owned(path, age_s=1000)
    rename = Path.rename

    def late(source: Path, target: Path) -> Path:
        if source == path:
            owned(path, token="third")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", late)
    with soft_lock(tmp_path / "lock") as held:
        assert not held
    assert json.loads(path.read_text())["token"] == "third" and list(tmp_path.iterdir()) == [path]


def test_a_lock_that_cannot_be_read_while_it_is_removed_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    owned(path, age_s=1000)
    read = Path.read_bytes

    def failing(source: Path) -> bytes:
        if source.suffix == ".old" and source.name.startswith("lock.") and "takeover" not in source.name:
            raise OSError(116, "ESTALE")
        return read(source)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match="ESTALE"), soft_lock(path):
            pass
    assert json.loads(path.read_text())["token"] == "other" and list(tmp_path.iterdir()) == [path]


def test_a_lock_that_is_gone_when_it_is_looked_at_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = tmp_path / "lock.takeover"
    owned(guard, age_s=1000)
    owner = module._owner

    def late(path: Path) -> dict[str, object]:
        found = owner(path)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "_owner", late)
    with soft_lock(tmp_path / "lock") as held:
        assert not held


def test_a_disk_that_keeps_no_times_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.utime", lambda *_: None)
    with pytest.raises(UserError, match=r"keeps no times\); choose another folder"), soft_lock(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_to_look_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(module, "NamedTemporaryFile", lambda **_: pytest.fail("writes"))
    owned(path)
    assert is_held(path)
    owned(path, age_s=1000)
    assert not is_held(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', '{"process": "x"}'])
def test_a_file_that_names_no_process_is_held_until_it_is_old(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(content)
    assert is_held(path)
    os.utime(path, (0, 0))
    assert not is_held(path)
