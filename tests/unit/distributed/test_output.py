"""A run goes on when nobody reads what it prints any more."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from mt_dnn.distributed.output import lasting_output

SCRIPT = """
import sys
from pathlib import Path
from mt_dnn.distributed.output import lasting_output
sys.stdin.readline()  # until the reader has gone
with lasting_output():
    for _ in range(3):
        print("text" * 10_000, flush=True)
    print("still buffered")
Path(sys.argv[1]).touch()
"""


def test_a_closed_standard_output_stops_nothing(tmp_path: object) -> None:
    command = [sys.executable, "-c", SCRIPT, f"{tmp_path}/saved"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin and process.stderr
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait() == 0 and process.stderr.read() == ""
    assert subprocess.run(["ls", f"{tmp_path}/saved"], capture_output=True).returncode == 0


def test_a_run_goes_on_if_its_streams_were_closed_before_it_started(tmp_path: object) -> None:
    command = f"'{sys.executable}' -c '{SCRIPT}' '{tmp_path}/saved' < /dev/null >&- 2>&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    assert subprocess.run(["ls", f"{tmp_path}/saved"], capture_output=True).returncode == 0


class Notebook(io.StringIO):
    """A stream without a file, whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")

    def flush(self) -> None:
        raise BrokenPipeError("gone")


@pytest.mark.parametrize("named", [True, False], ids=["unsupported fileno", "no fileno"])
def test_a_stream_without_a_file_stops_nothing(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = Notebook()
    if not named:
        stream = SimpleNamespace(write=stream.write, flush=stream.flush)
    monkeypatch.setattr(sys, "stdout", stream)
    with lasting_output():
        for _ in range(3):
            print("text", flush=True)
    assert sys.stdout is stream
