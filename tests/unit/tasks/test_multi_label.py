"""Rows, head, decoding and metrics of tasks with any number of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.metrics import compute
from data_utils.prepare import prepare
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches.collate import collate
from mt_dnn.tasks.class_sets import ClassSets, MultiLabelHead
from mt_dnn.tasks.losses import cross_entropy, sym_kl
from tests.tiny import tiny_encoder

TASK = TaskDef(
    name="m",
    task_type="multi_label",
    data_format="single",
    labels=("a", "b", "c"),
    **TASK_TYPES["multi_label"].defaults,
)


def write(folder: Path, *rows: str) -> Path:
    path = folder / "m_dev.tsv"
    path.write_text("\n".join(["uid\tlabel\tpremise", *rows]) + "\n")
    return path


def test_rows_hold_a_yes_or_no_for_each_label(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, 'u\t["c", "a"]\tx', "v\t[]\ty"), TASK)
    assert rows.label == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('["d"]', "m_dev.tsv:2: label 'd' is not one of a, b, c"),
        ("a", "list of labels as JSON"),
        ("[1]", "label '1' is not one of a, b, c"),
    ],
)
def test_wrong_labels_are_one_line(label: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_rows(write(tmp_path, f"u\t{label}\tx"), TASK)


@pytest.mark.parametrize("labelled", [True, False])
def test_predictions_of_prepared_rows(labelled: bool, tmp_path: Path) -> None:
    texts = ["the cat", "a dog sees", "man", "red"]
    sets = ['["a"]', '["a", "b"]', "[]", '["a"]'] if labelled else [""] * 4
    write(tmp_path, *(f"{i}\t{label}\t{text}" for i, (label, text) in enumerate(zip(sets, texts, strict=True))))
    tokenizer = load_tokenizer(str(tiny_encoder(tmp_path / "encoder")))
    split = prepare(TASK, "dev", data_dir=tmp_path, cache_dir=tmp_path / "cache", tokenizer=tokenizer, max_length=16)
    batch = collate(split, [2, 0], task="m")
    assert batch.decisions is not None and batch.decisions.tolist() == [0, 3, 6] and split.uids == ["0", "1", "2", "3"]
    logits = [np.array([[0, 2], [0, -1], [0, 0.5]], np.float32)] * 4
    decoded = ClassSets()(TASK, TASK, split, logits)
    assert decoded.predictions.tolist() == [[1, 0, 1]] * 4
    assert [line["prediction"] for line in ClassSets().records(TASK, split, decoded)] == [["a", "c"]] * 4
    if not labelled:
        assert split.labels is None and batch.labels is None
        return
    assert batch.labels is not None and batch.labels.tolist() == [0, 0, 0, 1, 0, 0]
    answers = ClassSets().answers(TASK, split, decoded)
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    found = compute(["f1_micro", "f1_macro", "accuracy"], answers)
    for average in ("micro", "macro"):
        expected = f1_score(gold, decoded.predictions, average=average, zero_division=0)
        assert found[f"f1_{average}"] == pytest.approx(expected)
    assert found["accuracy"] == 0


def test_the_loss_is_binary_cross_entropy() -> None:
    torch.manual_seed(1)
    head = MultiLabelHead(8, 3, 0.0, 0.5)
    hidden, labels = torch.randn(4, 8), torch.randint(0, 2, (12,))
    logits = head(hidden, None)
    yes = head.linear(hidden).flatten()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(yes, labels.float())
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    p, q = torch.sigmoid(yes), torch.sigmoid(yes + 1)
    both = ((p - q) * ((p / q).log() - ((1 - p) / (1 - q)).log())).mean()
    other = torch.stack([torch.zeros_like(yes), yes + 1], 1)
    torch.testing.assert_close(sym_kl(logits, other), both)
