"""Commands of mt-dnn analyze: what the user types reaches the analysis, under the same name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from mt_dnn.analyses.start import ANALYSES
from mt_dnn.cli.main import main


def options_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[str, list[str], dict[str, Any]]:
    """Kind, names of runs and options that a command starts an analysis with."""
    seen: list[Any] = []

    def start(kind: str, runs: Any, options: Any, *, folder: Path) -> dict[str, Any]:
        seen.extend([kind, [run.name for run in runs], {**options, "folder": str(folder)}])
        return {"kind": kind, "task": "rte", "split": "dev"}

    def written(record: dict[str, Any], file: Path) -> Path:
        seen.append(file.name)
        return file

    monkeypatch.setattr("mt_dnn.analyses.start.start", start)
    monkeypatch.setattr("mt_dnn.cli.analysis_files.written", written)
    with pytest.raises(SystemExit) as ended:
        main(["analyze", *arguments])
    assert ended.value.code == 0
    kind, runs, options, file = seen
    assert options.keys() - {"folder"} <= inspect.signature(ANALYSES[kind]).parameters.keys()
    return kind, runs, {**options, "file": file}


PLAIN = ["--output", "out", "--no-figures"]


@pytest.mark.parametrize(
    ("arguments", "runs", "options"),
    [
        (["confusion", "a=x", "b=y", "--task", "rte"], ["a", "b"], {"task": "rte", "split": "dev"}),
        (
            ["agreement", "a=x", "--annotations", "votes.jsonl"],
            ["a"],
            {"task": "mnli", "split": "dev_matched", "annotations": "votes.jsonl"},
        ),
        (["calibration", "a=x", "--task", "rte", "--bins", "7"], ["a"], {"task": "rte", "split": "dev", "bins": 7}),
        (["challenge", "a=x", "--task", "hans"], ["a"], {"task": "hans", "file": "challenge-hans.json"}),
        (
            ["challenge", "a=x", "--task", "hans", "--split", "dev", "--split", "test", "--by", "subcase"],
            ["a"],
            {"task": "hans", "split": ("dev", "test"), "by": ("subcase",), "file": "challenge-hans.json"},
        ),
        (
            ["loss-surface", "a=x", "--task", "rte", "--seed", "0", "--name", "mine"],
            ["a"],
            {"task": "rte", "points": 21, "extent": 1.0, "rows": 256, "seed": 0, "file": "mine.json"},
        ),
        (
            ["robustness", "a=x", "--task", "rte", "--reference", "a", "--device", "cpu", "--data", "rows"],
            ["a"],
            {
                "task": "rte", "split": "dev", "radius": 0.5, "levels": 10, "reference": ("a",), "examples": 100,
                "steps": 200, "restarts": 1, "step_size": 0.1, "seed": 0, "device": "cpu", "data": "rows",
            },
        ),
        (["tally", "x"], ["x"], {}),
    ],
)  # fmt: skip
def test_options_reach_the_analysis(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], runs: list[str], options: dict[str, Any]
) -> None:
    kind, names, found = options_of(monkeypatch, *arguments, *PLAIN)
    assert (kind, names) == (arguments[0].replace("-", "_"), runs)
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in plain.items()}
    assert plain == {"file": f"{kind}-rte-dev.json", "folder": "out", **options}


def test_neighbours_are_named_by_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("neighbours", "a=x", "--task", "rte", "--word", "cat", "--level", "2", "--output", "out")
    kind, names, found = options_of(monkeypatch, *arguments)
    assert (kind, names, found["word"], found["level"]) == ("neighbours", ["a"], "cat", 2)
    assert found["file"] == "neighbours-rte-cat-level2.json"
