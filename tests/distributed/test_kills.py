"""A few of the kills of ``python -m tests.kills``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_break_no_promise() -> None:
    command = [sys.executable, "-m", "tests.kills", "--kills", "3", "--seed", "7", "--real", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "3 kills of" in done.stdout, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("every promise was kept")
