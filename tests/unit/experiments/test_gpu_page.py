"""The page that scripts/gpu_check.sh writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from experiments.gpu.page import page, read

ROOT = Path(__file__).parents[3]
RECORD = {"shape": "base", "batch_size": 32, "precision": "bf16", "mode": "vat", "ms_per_step": 12.5}


def test_records_and_what_the_tests_said_stand_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "gpu.jsonl"
    file.write_text(f"{json.dumps(RECORD)}\n" + json.dumps({"machine": {"lengths": "mnli"}}) + "\n")
    text = page(
        "FAILED tests/gpu/test_steps.py::test_x - assert 1 == 2\n==== 1 failed, 39 passed in 12.00s ====\n", *read(file)
    )
    assert "| base | 32 | bf16 | vat | 12.5 |" in text and "Lengths of mnli." in text
    assert "1 failed, 39 passed in 12.00s." in text and "- FAILED tests/gpu/test_steps.py::test_x" in text


def test_a_check_that_was_stopped_says_so(tmp_path: Path) -> None:
    file = tmp_path / "gpu.jsonl"
    file.write_text(f"{json.dumps(RECORD)}\n" + json.dumps(RECORD)[:20])
    records, machine = read(file)
    text = page("tests/gpu/test_steps.py ....", records, machine)
    assert records == [RECORD]
    assert "`tests/gpu`: stopped before their end." in text and "Stopped before its end." in text


@pytest.mark.parametrize("arguments", [["--devices"], ["--output"]])
def test_wrong_arguments_are_refused_before_anything_is_written(arguments: list[str]) -> None:
    command = ["bash", str(ROOT / "scripts/gpu_check.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not (ROOT / "experiments/results/gpu_tests.txt").exists()
