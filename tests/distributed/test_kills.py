"""A few of the kills of ``python -m tests.kills``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.forks import Command, run_module


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_three_kills_break_no_promise(tmp_path: Path) -> None:
    arguments = ["tests.kills", "--kills", "3", "--seed", "7", "--real", "0.2"]
    process = Command(arguments, {**os.environ, "TMPDIR": str(tmp_path)}, run=run_module)
    output, errors = process.communicate()
    assert process.returncode == 0 and "3 kills of" in output, output + errors
    assert output.rstrip().endswith("every promise was kept")
