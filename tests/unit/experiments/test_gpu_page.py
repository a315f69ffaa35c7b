"""The page that scripts/gpu_check.sh writes."""

from __future__ import annotations

import json
import os
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
        "FAILED tests/gpu/test_steps.py::test_x - assert 1 == 2\n==== 1 failed, 39 passed in 12.00s ====\n",
        *read(file),
        command="bash scripts/gpu_check.sh --device cpu --quick --output x.md",
        device="cpu",
    )
    assert "| base | 32 | bf16 | vat | 12.5 |" in text and "Lengths of mnli." in text
    assert "    bash scripts/gpu_check.sh --device cpu --quick --output x.md\n" in text
    assert "1 failed, 39 passed in 12.00s." in text and "- FAILED tests/gpu/test_steps.py::test_x" in text


def test_a_check_that_was_stopped_says_so(tmp_path: Path) -> None:
    file = tmp_path / "gpu.jsonl"
    file.write_text(f"{json.dumps(RECORD)}\n" + json.dumps(RECORD)[:20])
    records, machine = read(file)
    text = page("tests/gpu/test_steps.py ....", records, machine, command="bash scripts/gpu_check.sh", device="cpu")
    assert records == [RECORD]
    assert "`tests/gpu`: stopped before their end." in text and "Stopped before its end." in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices"], "unknown argument '--devices'"),
        (["--output"], "--output needs a file whose name ends in .md"),
        (["--device", "cuda1"], "--device needs cuda, cuda:1 or cpu"),
        (["--output", "no/folder.md"], "no folder no; make it first"),
        ([], "this machine has no GPU 'cuda'"),
        (["--device", "cuda:1"], "this machine has no GPU 'cuda:1'"),
    ],
)
def test_the_check_stops_before_it_touches_a_file(tmp_path: Path, arguments: list[str], message: str) -> None:
    files = [tmp_path / f"page{ending}" for ending in (".md", ".jsonl", "_tests.txt")]
    for file in files:
        file.write_text("of the last check")
    command = ["bash", str(ROOT / "scripts/gpu_check.sh"), "--output", str(files[0]), *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr
    assert {file.read_text() for file in files} == {"of the last check"}
