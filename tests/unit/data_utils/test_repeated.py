"""Rows that a split shares with training are counted and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.start import start
from tests.layouts import lay_out
from tests.tiny import tiny_encoder

TASKS = "shared: {task_type: classification, data_format: pair, labels: [other, same], splits: [train, dev, test]}\n"
HEADER = "uid\tlabel\tpremise\thypothesis\n"
TRAIN = [("other", "the cat", "a dog"), ("same", "the dog", "a cat"), ("other", "a bird .", "the man")]


def rows(content: list[tuple[str, str, str]]) -> str:
    return HEADER + "".join(f"r{number}\t" + "\t".join(row) + "\n" for number, row in enumerate(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dev = [TRAIN[0], ("other", TRAIN[1][1], TRAIN[1][2]), ("same", "a dog", "the cat"), ("other", "the cat a", "dog")]
    test = [("same", "old man", "red bird"), ("other", "red bird", "old man")]
    files = {"shared_train.tsv": rows(TRAIN), "shared_dev.tsv": rows(dev), "shared_test.tsv": rows(test)}
    lay_out(tmp_path, {"tasks.yml": TASKS, **files})
    tiny_encoder(tmp_path / "encoder")
    return tmp_path


def test_the_same_two_texts_in_the_same_order_count_whatever_their_label(folder: Path) -> None:
    settings = {
        "task_defs": str(folder / "tasks.yml"),
        "data": {"dir": str(folder), "max_length": 64},
        "output": str(folder / "run"),
    }
    config = load_config({**settings, "encoder": {"name": str(folder / "encoder")}})
    notices = [notice for notice in start(config).notices if "training row" in notice]
    assert notices == ["shared: 2 of 4 rows of dev have the texts of a training row"]
