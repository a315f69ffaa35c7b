"""Threads: one per core that there is, divided between processes, and asleep while others need the cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import pytest
import torch

import mt_dnn
from mt_dnn import threads
from mt_dnn.runs import build
from mt_dnn.threads import (
    CALM,
    NUMBER,
    POLICY,
    WAITING,
    Teams,
    Watch,
    busy_seconds,
    divide_threads,
    ignore_neighbours,
    is_chosen,
    set_threads,
    watch_neighbours,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the tests' own environment sets; and everything is set back afterwards."""
    kept = {name: value for name, value in os.environ.items() if name not in {*WAITING, POLICY, NUMBER, "MT_DNN_CORES"}}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)


def test_by_default_there_are_as_many_threads_as_cores() -> None:
    set_threads(None)
    assert os.environ[NUMBER] == "8" and WAITING.items() <= os.environ.items()


def test_python_functions_set_the_same_before_they_import_torch() -> None:
    assert not WAITING.items() & os.environ.items()
    mt_dnn.__getattr__("load")
    assert os.environ[NUMBER] == "8" and WAITING.items() <= os.environ.items()


@pytest.mark.parametrize(("processes", "each"), [(2, "4"), (3, "2"), (16, "1")])
def test_processes_divide_the_cores(processes: int, each: str) -> None:
    set_threads(None)
    divide_threads(processes)
    assert os.environ[NUMBER] == each


def test_what_the_user_has_set_stays() -> None:
    os.environ |= {NUMBER: "3", "OMP_WAIT_POLICY": "active"}
    set_threads(None)
    divide_threads(2)
    assert os.environ[NUMBER] == "3" and os.environ["OMP_WAIT_POLICY"] == "active"
    assert "GOMP_SPINCOUNT" not in os.environ
    set_threads(5)  # the option is stronger than the environment
    divide_threads(2)
    assert os.environ[NUMBER] == "5"


def test_a_measurement_of_two_processes_watches_no_neighbours() -> None:
    set_threads(None)
    assert not is_chosen()
    ignore_neighbours()
    assert is_chosen() and POLICY not in os.environ
    del os.environ["GOMP_SPINCOUNT"]
    os.environ[POLICY] = "active"
    ignore_neighbours()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_torch_gets_the_number() -> None:
    code = """
from mt_dnn.cli.main import main
try:
    main(["--threads", "1", "config"])  # an error, because the run file is missing
except SystemExit:
    import torch
    print("threads", torch.get_num_threads())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert found.stdout == "threads 1\n", found.stderr


def test_the_time_of_some_cores_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row a core: user, nice, system, idle, waits for disks, interrupts, soft interrupts, stolen, guests."""
    file = tmp_path / "stat"
    file.write_text(
        "cpu  1 2 3 4 5 6 7 8 9 10\n"
        "cpu0 100 20 3 999 999 4 5 999 50 0\n"
        "cpu1 7000 0 0 999 999 0 0 999 0 0\n"
        "cpu2 10 0 0 999 999 0 0 999 0 0\n"
        "intr 1 2 3\n"
    )
    monkeypatch.setattr(threads, "STATISTICS", str(file))
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    assert busy_seconds({0, 2}) == pytest.approx((132 + 10) / 100)
    monkeypatch.setattr(threads, "STATISTICS", str(tmp_path / "missing"))
    assert busy_seconds({0, 2}) == 0


@pytest.mark.parametrize(
    ("number", "everybody", "this", "crowded"),
    [
        (8, 16.0, 15.9, False),  # in two seconds eight cores do sixteen seconds of work
        (8, 10.0, 9.7, True),  # others use 0.15 cores, and there is none to spare
        (6, 13.0, 9.0, False),  # others use the two cores that are free
        (6, 13.0, 8.5, True),
        (8, 1.0, 15.0, True),  # what is read cannot be true
    ],
)
def test_cores_are_crowded_when_others_need_those_of_the_threads(
    number: int, everybody: float, this: float, crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    watch = Watch(number)
    assert watch.is_crowded((10.0, 100.0, 50.0), (12.0, 100.0 + everybody, 50.0 + this)) is crowded


def test_a_quota_of_processor_time_is_not_spent_on_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))  # cpu_count says 8
    assert Watch(8).is_crowded((0.0, 0.0, 0.0), (2.0, 1.0, 1.0))


def test_idle_teams_come_at_once_and_go_after_some_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    formed: list[threading.Event] = []
    monkeypatch.setattr(threads, "_form_team", formed.append)
    teams = Teams(threads=3, cores=8)
    for crowded in (True, *[False] * (CALM - 1), True, True, *[False] * (CALM - 1)):
        teams.adapt(crowded)
    assert [event.is_set() for event in formed] == [False] * 3  # 3 + 3 * 2 threads are more than 8 cores
    teams.adapt(crowded=False)
    assert all(event.is_set() for event in formed)
    teams.adapt(crowded=False)
    teams.adapt(crowded=True)
    assert len(formed) == 6


@pytest.mark.parametrize(
    ("given", "number", "watches"),
    [({}, 2, 1), (WAITING, 2, 1), (WAITING, 1, 0), ({POLICY: "passive"}, 2, 0), ({"GOMP_SPINCOUNT": "5"}, 2, 0)],
)
def test_neighbours_are_watched_only_if_the_user_chose_no_policy(
    given: dict[str, str], number: int, watches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Watch] = []
    monkeypatch.setattr(Watch, "start", lambda watch: started.append(watch))
    os.environ |= given
    watch_neighbours(number)
    assert len(started) == watches


def test_a_watch_makes_the_threads_of_openmp_sleep_by_adding_some() -> None:
    """In a process of its own, whose first look finds the cores busy. See the threads of the system."""
    code = """
import os, threading, time
import torch
from mt_dnn.threads import watch_neighbours
torch.zeros(1 << 18).add_(1)
before = len(os.listdir("/proc/self/task"))
for _ in range(2):
    watch_neighbours(2)
watches = [thread for thread in threading.enumerate() if thread.name == "neighbours"]
assert len(watches) == 1, watches
teams = len(os.sched_getaffinity(0)) - 1  # each is a thread of Python, and with it one of OpenMP
for _ in range(100):
    if len(os.listdir("/proc/self/task")) == before + 1 + 2 * teams:
        break
    time.sleep(0.1)
else:
    raise AssertionError(os.listdir("/proc/self/task"))
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, NUMBER: "2"})


def test_a_device_is_chosen_with_an_eye_on_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[int] = []
    monkeypatch.setattr(build, "watch_neighbours", watched.append)
    build.choose_device("cpu")
    assert watched == [torch.get_num_threads()]
