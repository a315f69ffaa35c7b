"""Threads: one per core that there is, divided between processes, and asleep when they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import joblib
import pytest

import mt_dnn
from mt_dnn.threads import NUMBER, WAITING, divide_threads, set_threads


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the tests' own environment sets; and everything is set back afterwards."""
    kept = {name: value for name, value in os.environ.items() if name not in {*WAITING, NUMBER, "MT_DNN_CORES"}}
    monkeypatch.setattr(os, "environ", kept)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)


def test_by_default_there_are_as_many_threads_as_cores_and_they_sleep() -> None:
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
