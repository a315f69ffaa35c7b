"""Steps on a pretend GPU (tests/pretend_gpu): no mix-up of devices, no wait, as many operations as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # about a minute of processor time
def test_steps_ask_no_more_of_a_gpu_than_before() -> None:
    command = [sys.executable, "-m", "tests.pretend_gpu"]  # the pretend device would stay in this process
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_faults_are_not_written() -> None:
    program = (
        "from tests.pretend_gpu import __main__ as command\n"
        "command.measured = lambda folder, wanted: [('a case', {'fault': 'TypeError: so'})]\n"
        "raise SystemExit(command.main())"
    )
    counts = ROOT / "tests" / "pretend_gpu" / "counts.json"
    before = counts.read_bytes()
    command = [sys.executable, "-c", program, "--write"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    after = counts.read_bytes()
    counts.write_bytes(before)
    assert (result.returncode, result.stdout) == (1, "a case: TypeError: so\n")
    assert after == before
