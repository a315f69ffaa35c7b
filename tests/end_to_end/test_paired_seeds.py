"""experiments/speed/paired_seeds.py: the same runs with and without fast paths, and what it says about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_utils.task_yaml import read_yaml
from experiments.speed import paired_seeds
from experiments.speed.paired_seeds import FAST_PATHS, HERE, MODES, interval, report
from mt_dnn.runs.config_file import load_config

ROWS = [("1", "the cat sleeps"), ("0", "the dog does not sleep")] * 4
VERSIONS = {"torch": "2", "transformers": "5"}


def record_of(adversary: str, seed: int, fast: bool, accuracy: float) -> dict[str, Any]:
    return {"adversary": adversary, "seed": seed, "fast": fast, "task": "sst2", "accuracy": accuracy, **VERSIONS}


def test_the_interval_is_that_of_students_t() -> None:
    assert interval([1.0, 2.0, 3.0]) == "+2.00 [-0.48, +4.48]"  # ± 4.3027 · 1 / √3


def test_only_pairs_of_the_same_mode_and_seed_are_compared() -> None:
    scores = {
        ("none", 1): (0.81, 0.80),
        ("none", 2): (0.84, 0.82),
        ("none", 3): (0.88, 0.85),
        ("preset", 1): (0.1, 0.2),
    }
    records = [
        record_of(adversary, seed, fast, pair[not fast])
        for (adversary, seed), pair in reversed(scores.items())
        for fast in (False, True)
    ]
    printed = report([*records, record_of("none", 9, True, 0.0)]).splitlines()
    row = next(line.split() for line in printed if line.startswith("none"))
    assert row == ["none", "3", "84.33", "±", "3.51", "82.33", "±", "2.52", "+2.00", "[-0.48,", "+4.48]"]
    assert not any(line.startswith("preset") for line in printed)  # one pair has no interval


@pytest.mark.parametrize("mode", MODES)
def test_the_modes_exist(mode: str) -> None:
    adversary = mode if ":" in mode else f"{{mode: {mode}}}"
    config = load_config(HERE / "paired_seeds.yml", [f"adversary={adversary}"])
    assert config.adversary.mode == ("freelb" if ":" in mode else "none")


def test_runs_of_a_pair_differ_in_their_fast_paths_and_are_made_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, records = workspace / "sst2", workspace / "records.jsonl"
    data.mkdir()
    for split in ("train", "dev"):
        rows = [f"{number}\t{label}\t{text}\n" for number, (label, text) in enumerate(ROWS)]
        (data / f"sst2_{split}.tsv").write_text("".join(rows))
    options = [f"data.dir={data}", f"encoder.name={workspace / 'encoder'}", "train.epochs=1", "device=cpu"]
    root = HERE.parents[1]
    monkeypatch.setattr(paired_seeds, "MODES", ("none",))
    monkeypatch.chdir(workspace)
    arguments = [
        *options,
        f"task_defs={root / 'task_defs' / 'glue.yml'}",
        "data.max_unknown_share=1",
        "data.max_length=64",
    ]
    monkeypatch.setattr("sys.argv", ["paired_seeds.py", *arguments, "--seeds", "1", "2", "--records", str(records)])

    paired_seeds.main()
    made = [json.loads(line) for line in records.read_text().splitlines()]
    assert all(0 <= record["accuracy"] <= 1 for record in made)
    assert [(record["seed"], record["fast"]) for record in made] == [(1, True), (1, False), (2, True), (2, False)]
    for arm, paths in (("fast", list(FAST_PATHS)), ("plain", [])):
        for seed in (1, 2):
            config = read_yaml(workspace / "runs" / "speed" / f"none-{arm}-seed{seed}" / "config.yml")
            assert config["train"]["fast_paths"] == paths and config["seed"] == seed
    printed = capsys.readouterr().out.splitlines()[-1].split()
    assert printed[:2] == ["none", "2"]

    def refused(*_: object) -> None:
        raise AssertionError("this run was made before")

    monkeypatch.setattr(paired_seeds, "train", refused)
    paired_seeds.main()
    assert capsys.readouterr().out.splitlines()[-1].split() == printed
    assert len(records.read_text().splitlines()) == 4
