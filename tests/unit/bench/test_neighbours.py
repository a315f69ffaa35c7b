"""Steps beside other work: each case runs in fresh processes, and none is left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.bench import neighbours
from mt_dnn.bench.neighbours import neighbours_command
from tests.forks import Piped


@pytest.mark.slow
def test_every_case_is_measured(
    workspace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(command: list[str], **options: Any) -> Any:
        started.append(command[1])
        return Piped(command, **options) if command[1] == "-m" else real(command, **options)

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    neighbours_command(workspace / "run.yml", ["tasks=[same]"], updates=1, rounds=1, as_json=True)
    assert started == ["-m", "-m", "-m", "-c", "-m", "-m"]  # alone, active, busy, pair
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    times = {name: found[f"{name}_ms_per_step"] for name in neighbours.CASES}
    assert min(times.values()) > 0
    assert found["busy"] == pytest.approx(times["busy"] / times["alone"], rel=0.05)
    assert found["pair"] == pytest.approx(times["pair"] / times["alone"] / 2, rel=0.05)
    assert found["alone"] == pytest.approx(times["alone"] / times["active"], rel=0.05)


@pytest.mark.slow
def test_a_process_that_ends_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", Piped)
    with pytest.raises(UserError, match="ended early"):
        neighbours._measured(["no/such.yml"], 1, runs=1, busy=False, active=False)
