"""A few of the kills of ``python -m tests.kills``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_break_no_promise(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kills", "--kills", "3", "--seed", "7", "--real", "0.2"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "3 kills of" in done.stdout, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("every promise was kept")
