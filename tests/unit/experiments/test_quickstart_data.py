"""The generated quick-start data: deterministic, balanced, disjoint, and readable by our own reader."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from data_utils.rows import Rows, find_rows, read_rows
from data_utils.task_def import load_task_defs
from tests import ROOT

GENERATOR = ROOT / "experiments" / "quickstart" / "generate.py"
TASKS = load_task_defs(ROOT / "task_defs" / "quickstart.yml")


def generate(folder: Path, *arguments: str) -> Path:
    command = [sys.executable, str(GENERATOR), "--output", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[tuple[str, str], Rows]:
    keys = [(name, split) for name, task in TASKS.items() for split in task.splits]
    return {(name, split): read_rows(find_rows(folder, TASKS[name], split), TASKS[name]) for name, split in keys}


def labels(rows: Rows) -> list[float]:
    assert rows.label is not None
    return [float(label) for label in rows.label]


def pairs(rows: Rows) -> list[tuple[str, str]]:
    return list(zip(rows.first, rows.second or [""] * len(rows), strict=True))


def test_every_file_belongs_to_a_split_of_the_task_file(folder, splits):
    assert {path.name for path in folder.iterdir()} == {rows.path.name for rows in splits.values()}


def test_sizes_suit_a_quick_start(splits):
    for (_, split), rows in splits.items():
        low, high = (500, 1500) if split == "train" else (100, 300)
        assert low <= len(rows) <= high


def test_no_sentences_appear_twice_anywhere(splits):
    for rows in splits.values():
        assert len(set(pairs(rows))) == len(rows)
    for (one_key, one), (other_key, other) in combinations(splits.items(), 2):
        assert not set(pairs(one)) & set(pairs(other)), (one_key, other_key)


def test_classes_are_balanced(splits):
    for (name, _), rows in splits.items():
        if TASKS[name].task_type == "classification":
            counts = Counter(labels(rows)).values()
            assert len(counts) == 2 and max(counts) - min(counts) <= 0.02 * len(rows)


def test_labels_do_not_follow_from_one_construction(splits):
    for name, split in [("nli", "train"), ("acceptability", "train"), ("nli_challenge", "test")]:
        rows = splits[name, split]
        by_case: dict[str, list[float]] = {}
        for case, label in zip(rows.extra["case"], labels(rows), strict=True):
            by_case.setdefault(case, []).append(label)
        assert all(0.4 < sum(found) / len(found) < 0.6 for found in by_case.values())


def test_challenge_has_trained_and_held_out_traps_of_each_heuristic(splits):
    trained = set(splits["nli", "train"].extra["case"])
    challenge = set(splits["nli_challenge", "test"].extra["case"])
    for heuristic in ("lexical_overlap", "subsequence", "constituent"):
        cases = {case for case in challenge if case.startswith(f"{heuristic}/")}
        assert cases & trained and cases - trained
    assert trained == set(splits["nli", "dev"].extra["case"])


def test_similarity_covers_its_range(splits):
    scores = labels(splits["similarity", "train"])
    share = [sum(low <= score <= low + 1 for score in scores) / len(scores) for low in range(5)]
    assert min(share) > 0.05


def test_sentences_are_well_formed(splits):
    for rows in splits.values():
        for text in (*rows.first, *(rows.second or [])):
            assert text[0].isupper() and text[-1] in ".?" and "{" not in text and "  " not in text
            assert not any(f" a {vowel}" in text for vowel in "aeiou")


def test_the_seed_decides_everything(folder, tmp_path):
    again = generate(tmp_path / "again", "--seed", "1")
    other = generate(tmp_path / "other", "--seed", "2")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()
        assert (other / path.name).read_bytes() != path.read_bytes()
