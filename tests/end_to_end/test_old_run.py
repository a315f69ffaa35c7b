"""Runs that an older version has written still resume, are scored and predict, and their prepared rows are reused.

``tests/golden/old_run`` holds the runs and ``expected.json`` what the older version made of them. README.md in
tests/golden says how they were made. Everything here goes through the command line.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.golden.figures import kept, misfits
from tests.golden.make_old_run import FINISHED, FOLDER, INTERRUPTED
from tests.golden.runner import read_run, run_command

EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, which is the current one; its paths are relative."""
    shutil.copytree(FOLDER, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def prepared(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of change and hash of everything in the folder of prepared rows."""
    files = sorted((folder / "data" / "prepared").rglob("*"))
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in files
    }


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL, torch draws other dropout masks")
def test_the_interrupted_run_is_resumed(old: Path) -> None:
    """In the middle of an epoch, with tallies, averaged weights, loss factors and figures that were not logged yet."""
    before = prepared(old)
    logged = (old / INTERRUPTED / "metrics.jsonl").read_text()
    printed = run_command("train", "run.yml", f"output={INTERRUPTED}", "train.fast_paths=[]")  # masks as at that time
    assert "resuming runs/interrupted after update 10 of 16" in printed and "dropout masks" not in printed
    assert (old / INTERRUPTED / "metrics.jsonl").read_text().startswith(logged)
    found = kept(read_run(old / INTERRUPTED))
    for figures in found["adversary"]:
        figures.pop("measured_regularizer", None)  # newer than what is expected
    wrong = misfits(EXPECTED["resumed"], found)
    assert not wrong, "\n".join(wrong)
    assert prepared(old) == before


def test_other_masks_after_a_resumption_are_said(old: Path) -> None:
    printed = run_command("train", "run.yml", f"output={INTERRUPTED}")
    assert "until here dropout masks were drawn in another way (train.fast_paths=[] draws them as before)" in printed


def test_the_finished_run_is_not_trained_again(old: Path) -> None:
    before, summary = prepared(old), json.loads((old / FINISHED / "summary.json").read_text())
    log = (old / FINISHED / "metrics.jsonl").read_text()
    run_command("train", "run.yml", f"output={FINISHED}")
    assert (old / FINISHED / "metrics.jsonl").read_text() == log and prepared(old) == before
    again = json.loads((old / FINISHED / "summary.json").read_text())
    assert again["selected_step"] == summary["selected_step"] and scores(again["results"]) == approximately(summary)


def test_the_finished_run_is_scored(old: Path) -> None:
    before = prepared(old)
    found = json.loads(run_command("evaluate", FINISHED, "--json"))
    assert scores(found) == approximately({"results": EXPECTED["scores"]}) and len(found) == 4
    assert prepared(old) == before


@pytest.mark.parametrize("task", EXPECTED["predictions"])
def test_the_finished_run_predicts(task: str, old: Path) -> None:
    before = prepared(old)
    output = run_command("predict", FINISHED, "--task", task, "--input", f"{task}.txt")
    lines = [json.loads(line) for line in output.splitlines()]
    assert len(lines) == 2 and lines[0]["prediction"] != lines[1]["prediction"]
    for line, expected in zip(lines, EXPECTED["predictions"][task], strict=True):
        assert line.keys() == expected.keys() and line["uid"] == expected["uid"]
        assert line["prediction"] == pytest.approx(expected["prediction"], abs=1e-4)
        assert line.get("scores") == pytest.approx(expected.get("scores"), abs=1e-4)
    assert prepared(old) == before


def scores(results: list[dict[str, Any]]) -> dict[str, float]:
    """Every score of a table, by task, split and metric."""
    return {
        f"{result['task']} {result['split']} {metric}": value
        for result in results
        for metric, value in result["scores"].items()
    }


def approximately(summary: dict[str, Any]) -> Any:
    """The scores of a summary, to the rounding of another processor."""
    return pytest.approx(scores(summary["results"]), abs=1e-3)
