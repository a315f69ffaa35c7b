"""Rows set aside from training: no text on both sides, labels in their shares, the same rows every time."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepared import Prepared
from data_utils.rows import Rows, collect_rows, read_rows
from data_utils.set_aside import CARVED, HELD_OUT, sampled, set_aside
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.runs.build import build_splits, build_tasks, build_tokenizer
from mt_dnn.runs.config_file import load_config
from tests.tiny import WORDS
from tests.workspace import make_workspace


def pairs(count: int, *, regression: bool = False) -> list[str]:
    """Lines of pairs. Each first text is in three of them; two thirds of the labels are the first class."""
    draw = random.Random(1)
    firsts = [" ".join(draw.choices(WORDS[:15], k=6)) + f" {number}" for number in range(count // 3)]
    rows = []
    for number in range(count):
        label = f"{draw.uniform(0, 5):.2f}" if regression else ("same" if number % 3 == 0 else "different")
        rows.append(f"r{number}\t{label}\t{firsts[number % len(firsts)]}\tthe cat {number}")
    return rows


def splits_of(folder: Path, name: str, **options: Any) -> tuple[dict[str, Prepared], Rows]:
    make_workspace(folder)
    task = load_task_defs(folder / "tasks.yml")[name]
    file = folder / "rows.tsv"
    file.write_text("\n".join(pairs(300, regression=name == "overlap")) + "\n", encoding="utf-8")
    rows = read_rows(file, task)
    encoded = encode_rows(rows, task, load_tokenizer(str(folder / "encoder")), max_length=64)
    encoded.manifest["hash"] = "0"
    return set_aside(encoded, rows, **options), rows


def texts(split: Prepared, rows: Rows) -> set[str]:
    by_uid = dict(zip(rows.uid, rows.first, strict=True))
    return {by_uid[uid] for uid in split.uids}


@pytest.mark.parametrize("name", ["same", "overlap"])
def test_no_first_text_is_on_two_sides(tmp_path: Path, name: str) -> None:
    splits, rows = splits_of(tmp_path, name, max_rows=None, carve=0.25)
    train, carved = splits["train"], splits[CARVED]
    assert sorted([*train.uids, *carved.uids]) == sorted(rows.uid)
    assert not texts(train, rows) & texts(carved, rows)
    assert 0.2 < len(carved) / len(rows) < 0.3
    assert train.manifest["hash"] != carved.manifest["hash"] != "0"


def test_labels_have_the_same_shares_on_both_sides(tmp_path: Path) -> None:
    splits, _ = splits_of(tmp_path, "same", max_rows=None, carve=0.5)
    for split in splits.values():
        assert split.labels is not None
        assert abs(Counter(split.labels.tolist())[1] / len(split) - 1 / 3) < 0.03


def test_tokens_and_labels_stay_with_their_rows(tmp_path: Path) -> None:
    splits, rows = splits_of(tmp_path, "same", max_rows=None, carve=0.2)
    everything, _ = splits_of(tmp_path / "all", "same", max_rows=None, carve=None)
    before = everything["train"]
    assert before.labels is not None
    for split in splits.values():
        assert split.labels is not None
        for number, uid in enumerate(split.uids):
            row = rows.uid.index(uid)
            assert split.labels[number] == before.labels[row]
            tokens = split.tokens[split.offsets[number] : split.offsets[number + 1]]
            assert np.array_equal(tokens, before.tokens[before.offsets[row] : before.offsets[row + 1]])


def test_held_out_rows_are_those_behind_without_texts_that_were_trained_on(tmp_path: Path) -> None:
    splits, rows = splits_of(tmp_path, "same", max_rows=60, carve=0.5)
    used = {*splits["train"].uids, *splits[CARVED].uids}
    assert used == set(rows.uid[:60])
    seen = set(rows.first[:60])
    assert splits[HELD_OUT].uids == [u for u, t in zip(rows.uid[60:], rows.first[60:], strict=True) if t not in seen]
    assert len(splits[HELD_OUT]) == 300 - 3 * 60


def test_the_draw_is_the_same_every_time_and_too_few_texts_are_refused(tmp_path: Path) -> None:
    first, _ = splits_of(tmp_path / "a", "same", max_rows=90, carve=0.2)
    second, _ = splits_of(tmp_path / "b", "same", max_rows=90, carve=0.2)
    assert first[CARVED].uids == second[CARVED].uids
    with pytest.raises(UserError, match=r"2 different first texts are too few for data.carve=0.2"):
        splits_of(tmp_path / "c", "same", max_rows=2, carve=0.2)


def test_windows_of_a_text_stay_together(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    task = TaskDef.model_validate(
        {
            "name": "tags",
            "task_type": "sequence_labelling",
            "data_format": "words",
            "labels": ("O", "B-X"),
            "metrics": ("accuracy",),
            "loss": "cross_entropy",
            "kd_loss": "kl",
            "adv_loss": "sym_kl",
        }
    )
    sentences = [[WORDS[(row + position) % 15] for position in range(20)] for row in range(10)]
    found = [
        (f"rows:{row}", {"uid": f"r{row}", "label": " ".join(["O"] * 20), "words": " ".join(words)})
        for row, words in enumerate(sentences)
    ]
    rows = collect_rows(tmp_path / "rows.tsv", found, task)
    encoded = encode_rows(rows, task, load_tokenizer(str(tmp_path / "encoder")), max_length=12, stride=2)
    encoded.manifest["hash"] = "0"
    splits = set_aside(encoded, rows, max_rows=None, carve=0.2)
    assert len(splits[CARVED].uids) == 2 and len(splits["train"].uids) == 8
    assert len(splits[CARVED]) + len(splits["train"]) == len(encoded)


def test_a_sample_is_drawn_over_the_whole_file_and_is_the_same_for_files_of_the_same_length(tmp_path: Path) -> None:
    everything, rows = splits_of(tmp_path / "a", "same", max_rows=None, carve=None)
    numbers, _ = splits_of(tmp_path / "b", "overlap", max_rows=None, carve=None)
    drawn = sampled(everything["train"], 60)
    assert len(drawn) == 60 and drawn.manifest["hash"] not in ("0", everything["train"].manifest["hash"])
    positions = [rows.uid.index(uid) for uid in drawn.uids]
    assert positions == sorted(set(positions)) and positions[0] < 30 and positions[-1] >= 270
    assert sampled(numbers["train"], 60).uids == drawn.uids  # other texts and labels, equally many rows
    assert sampled(everything["train"], 300) is everything["train"]


def test_a_sample_of_training_rows_is_drawn_over_the_whole_file_and_a_larger_one_starts_with_it(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    task = load_task_defs(tmp_path / "tasks.yml")["same"]
    file = tmp_path / "rows.tsv"
    file.write_text("\n".join(pairs(300)) + "\n", encoding="utf-8")
    every = read_rows(file, task)
    drawn = read_rows(file, task, max_rows=60, sample=True)
    numbers = [every.uid.index(uid) for uid in drawn.uid]
    assert len(set(numbers)) == 60 and min(numbers) < 30 and max(numbers) >= 270 and numbers != sorted(numbers)
    for row, number in enumerate(numbers):
        assert (drawn.first[row], drawn.second[row]) == (every.first[number], every.second[number])  # type: ignore[index]
        assert (drawn.label[row], drawn.locations[row]) == (every.label[number], every.locations[number])  # type: ignore[index]
    assert read_rows(file, task, max_rows=90, sample=True).uid[:60] == drawn.uid
    assert sorted(read_rows(file, task, max_rows=999, sample=True).uid) == sorted(every.uid)


def test_runs_that_sample_train_on_drawn_rows_and_hold_out_those_drawn_next(tmp_path: Path) -> None:
    file = make_workspace(tmp_path, train_rows=200)
    options = ["tasks=[same]", "data.max_rows=40", "data.carve=0.5", "data.held_out=60"]
    config = load_config(file, [*options, "data.sample=true"])
    task = build_tasks(config).trained["same"]
    order = read_rows(tmp_path / "data" / "same_train.tsv", task, max_rows=100, sample=True).uid
    splits, _ = build_splits(config, [(task, "train")], build_tokenizer(config))
    found = {name: set(split.uids) for (_, name), split in splits.items()}
    assert found["train"] | found[CARVED] == set(order[:40])
    assert found[HELD_OUT] and found[HELD_OUT] <= set(order[40:])
    first, _ = build_splits(load_config(file, options), [(task, "train")], build_tokenizer(config))
    assert first["same", "train"].manifest["hash"] != splits["same", "train"].manifest["hash"]
    with pytest.raises(UserError, match="sample has no effect with 'max_rows: null'"):
        load_config(file, ["data.sample=true"])


def test_runs_sample_the_files_that_they_do_not_train_on(tmp_path: Path) -> None:
    file = make_workspace(tmp_path, train_rows=200)
    config = load_config(
        file, ["tasks=[same]", "data.max_rows=60", "data.carve=0.5", "data.held_out=80", "data.max_eval_rows=7"]
    )
    splits, _ = build_splits(config, build_tasks(config).splits, build_tokenizer(config))
    sizes = {key: len(split) for key, split in splits.items()}
    assert {sizes["same", "dev"], sizes["same", "test"], sizes["same_hard", "test"]} == {7}
    assert min(sizes["same", part] for part in ("train", CARVED, HELD_OUT)) > 20
    other, _ = read_splits(config, build_tasks(config).splits, build_tokenizer(config), data=config.data.dir)
    assert len(other["same", "dev"]) > 7  # a folder that is named is read as it is


@pytest.mark.parametrize("share", [0.03, 0.2, 0.3, 0.33, 0.4, 0.45])
def test_the_share_is_kept(tmp_path: Path, share: float) -> None:
    splits, _ = splits_of(tmp_path, "same", max_rows=None, carve=share)
    assert len(splits[CARVED]) == pytest.approx(300 * share, abs=4)


def test_a_sample_has_whole_questions(tmp_path: Path) -> None:
    everything, _ = splits_of(tmp_path, "same", max_rows=None, carve=None)
    split = everything["train"]
    questions = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 3))
    batch = split.batch.append_column("question", pa.array(questions))
    asked = Prepared.of_columns(split.path, batch, split.manifest)
    drawn = sampled(asked, 50)
    assert drawn.questions is not None and len(drawn) == 48
    assert set(np.unique(drawn.questions, return_counts=True)[1].tolist()) == {3}
    assert np.unique(drawn.questions).max() > 70 and len(sampled(asked, 2)) == 3
