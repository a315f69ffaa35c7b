"""Fixtures shared by all tiers."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never ask the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin would keep the cores of other tests busy

import pytest
from hypothesis import settings

from mt_dnn.distributed.signals import PREEMPTION
from mt_dnn.threads import set_threads
from tests.workspace import make_workspace

set_threads(None)  # before torch is imported, as a command does
MEMORY = "/dev/shm"  # runs flush what they save, and tests would wait for a disk
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

settings.register_profile("tests", deadline=None)  # a busy machine is slow, which is no failure
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    gc.freeze()  # or each full collection of garbage would go through all objects of the imports


@pytest.fixture(autouse=True, scope="session")
def no_ignored_signals() -> None:
    """nohup lets a process ignore SIGHUP, and a shell's background job SIGINT; tests send both to what they start."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """Gives a test the signals that a command has left ignored: one that was stopped, as its process would end."""
    before = {number: signal.getsignal(number) for number in (*PREEMPTION, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A fresh folder with encoder/, data/, tasks.yml and run.yml."""
    make_workspace(tmp_path)
    return tmp_path


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The SIGTERM and SIGHUP that this process got and that nothing else has caught. They do not end it."""
    numbers: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda number, _: numbers.append(number))
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)
