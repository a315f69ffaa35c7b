"""Some of the points of ``python -m tests.faults``, and writers that it has to see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.forks import Command, run_module


def faults(folder: Path, *arguments: str) -> str:
    """Runs ``python -m tests.faults``. Returns what it has printed."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = Command(["tests.faults", *arguments], environment, run=run_module)
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, output + errors
    return output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_failing_calls_break_no_promise(tmp_path: Path) -> None:
    commands = [word for command in ("train", "prepare", "predict") for word in ("--command", command)]
    output = faults(tmp_path, *commands, "--points", "8", "--seed", "3")
    assert output.rstrip().endswith(": 0 broke a promise, 0 losses"), output
    assert "\n8 points (" in output and "not reached" not in output and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wrong_writers_are_seen(tmp_path: Path) -> None:
    output = faults(tmp_path, "--wrong-writers")
    assert output.count(": seen (") == len(output.splitlines()) == 6, output
