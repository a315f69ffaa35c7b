"""Locks without file locks: one process at a time, and a lock is taken over when its process has ended."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from mt_dnn.runs import soft_lock as module
from mt_dnn.runs.soft_lock import is_held, soft_lock
from tests.cuts import cut

UNLIMITED = 1 << 40


def owned(path: Path, *, host: str = "elsewhere", process: int = 1, age_s: float = 0.0) -> None:
    """Writes the lock of another process, last renewed so long ago."""
    path.write_text(json.dumps({"host": host, "process": process, "token": "other"}))
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


def test_a_lock_is_renewed_as_long_as_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    path = tmp_path / "lock"
    with soft_lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0 and is_held(path)
        owned(path, age_s=1000)  # this process was stopped for long, and another one has taken over
        time.sleep(0.1)
        assert path.stat().st_mtime < time.time() - 900
    assert json.loads(path.read_text())["token"] == "other"


def test_two_do_not_take_over_at_once(tmp_path: Path) -> None:
    path, guard = tmp_path / "lock", tmp_path / "lock.takeover"
    owned(path, host=socket.gethostname(), process=ended_process())
    guard.touch()
    with soft_lock(path) as held:
        assert not held
    os.utime(guard, (time.time() - module.STALE_S - 20,) * 2)  # that process has ended too
    with soft_lock(path) as held:
        assert held
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 1}', '{"process": "x"}'])
def test_a_file_that_names_no_process_is_held_until_it_is_old(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(content)
    assert is_held(path)
    os.utime(path, (0, 0))
    assert not is_held(path)
