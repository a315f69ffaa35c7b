"""A forked command ends with the code that a real one would have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.forks import exit_code


@pytest.mark.parametrize("given", [None, 0, 2, True, "no disk", ""])
def test_exit_codes_are_those_of_python(given: object, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.exit({given!r})"], capture_output=True, text=True, check=False
    )
    assert (exit_code(given), capsys.readouterr().err) == (done.returncode, done.stderr)
