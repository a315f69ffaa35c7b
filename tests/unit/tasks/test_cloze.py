"""Cloze: rows, sequences, answers that have several names, and their metrics."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches.collate import collate
from mt_dnn.tasks.choices import Cloze
from tests.answers import computed
from tests.tiny import tiny_encoder

TASK = TaskDef(name="c", task_type="cloze", data_format="cloze", **TASK_TYPES["cloze"].defaults)
HEADER = "uid\tlabel\tpremise\tquery\tchoice1\tchoice2\tchoice3\n"
ROWS = "a\t2\tthe cat sees\tnot @placeholder\tdog\tcat\t\nb\t1 3\tthe dog\t@placeholder sees\tcat\tbird\ta cat\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(str(tiny_encoder(tmp_path_factory.mktemp("bert"), "bert")))


def read(folder: Path, tokenizer: Any, rows: str, split: str = "dev") -> Prepared:
    (folder / f"c_{split}.tsv").write_text(HEADER + rows)
    return prepare(TASK, split, data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, max_length=64)


def test_each_choice_stands_in_the_gap(tokenizer: Any, tmp_path: Path) -> None:
    batch = collate(read(tmp_path, tokenizer, ROWS), [0, 1], task="c")
    texts = [tokenizer.decode(ids) for ids in batch.input_ids.split(batch.lengths.tolist())]
    expected = ["not dog", "not cat", "cat sees", "bird sees", "a cat sees"]
    premises = ["the cat sees"] * 2 + ["the dog"] * 3
    whole = [f"[CLS] {premise} [SEP] {text} [SEP]" for premise, text in zip(premises, expected, strict=True)]
    assert texts == whole
    assert batch.labels is not None and batch.labels.tolist() == [1, 0]


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """Exact match and F1 as ReCoRD's evaluation defines them, the best over the right answers."""

    def words(text: str) -> list[str]:
        kept = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    scores = []
    for gold in golds:
        one, other = words(prediction), words(gold)
        same = sum((Counter(one) & Counter(other)).values())
        precision, recall = same / max(len(one), 1), same / max(len(other), 1)
        scores.append(2 * precision * recall / (precision + recall) if same else 0.0)
    return float(any(words(prediction) == words(gold) for gold in golds)), max(scores)


@pytest.mark.parametrize("chosen", [(0, 0), (1, 1), (1, 2), (0, 1)])
def test_any_right_name_counts(chosen: tuple[int, int], tokenizer: Any, tmp_path: Path) -> None:
    split = read(tmp_path, tokenizer, ROWS)
    outputs = [np.eye(3, dtype=np.float32)[[number]] * 5 for number in chosen]
    outputs[0] = outputs[0][:, :2]
    decoded = Cloze()(TASK, TASK, split, outputs)
    lines = list(Cloze().records(TASK, split, decoded))
    texts = [["dog", "cat"][chosen[0]], ["cat", "bird", "a cat"][chosen[1]]]
    assert [line["prediction"] for line in lines] == texts
    assert [len(line["scores"]) for line in lines] == [2, 3]
    answers = Cloze().answers(TASK, split, decoded)
    pairs = [official(text, gold) for text, gold in zip(texts, [["cat"], ["cat", "a cat"]], strict=True)]
    found = computed(TASK.metrics, predictions=answers.predictions, labels=answers.labels)
    assert list(found.values()) == pytest.approx(np.mean(pairs, axis=0).tolist())


@pytest.mark.parametrize(
    ("row", "split", "message"),
    [
        ("a\t1\tthe\tno gap\tcat\tdog\t", "dev", "c_dev.tsv:2: query: has @placeholder 0 times"),
        ("a\t1\tthe\t@placeholder @placeholder\tcat\tdog\t", "dev", "has @placeholder 2 times; write it once"),
        ("a\t1 3\tthe\t@placeholder\tcat\tdog\t", "dev", "label '3' is not the number of a choice, 1 to 2"),
        ("a\t1  2\tthe\t@placeholder\tcat\tdog\t", "dev", "label '' is not the number of a choice"),
        ("a\t1 2\tthe\t@placeholder\tcat\tdog\t", "train", "c_train.tsv:2: 2 right choices; a training row has one"),
    ],
)
def test_wrong_rows_are_one_line(row: str, split: str, message: str, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, tokenizer, row + "\n", split)


def test_unlabelled_rows_are_predicted(tokenizer: Any, tmp_path: Path) -> None:
    split = read(tmp_path, tokenizer, "a\t\tthe cat\t@placeholder\tdog\tcat\t\n", "test")
    assert split.labels is None
    decoded = Cloze()(TASK, TASK, split, [np.array([[0.0, 3.0]], np.float32)])
    assert json.loads(json.dumps(next(Cloze().records(TASK, split, decoded))))["prediction"] == "cat"


def test_questions_are_right_when_all_their_rows_are(tokenizer: Any, tmp_path: Path) -> None:
    """MultiRC's EM, and a task that asks for it without saying which rows belong together."""
    score = computed(
        ["question_exact_match"],
        predictions=[0, 1, 1, 0, 0],
        labels=[0, 1, 0, 0, 0],
        n_class=2,
        questions=np.array([0, 0, 1, 2, 1]),
    )
    assert score == {"question_exact_match": pytest.approx(2 / 3)}
    task = TaskDef(
        name="m",
        task_type="classification",
        data_format="pair",
        labels=("false", "true"),
        **{**TASK_TYPES["classification"].defaults, "metrics": ("question_exact_match",)},
    )
    options: dict[str, Any] = {"data_dir": tmp_path, "cache_dir": tmp_path / "cache", "tokenizer": tokenizer}
    (tmp_path / "m_dev.tsv").write_text("uid\tlabel\tpremise\thypothesis\na\ttrue\tcat\tdog\n")
    with pytest.raises(UserError, match=r"m_dev\.tsv: no column 'question_id'"):
        prepare(task, "dev", max_length=64, **options)
    rows = ["0\ttrue\tcat\tdog\tx", "1\tfalse\tcat\tdog\ty", "2\ttrue\tcat\tdog\tx"]
    (tmp_path / "m_dev.tsv").write_text("\n".join(["uid\tlabel\tpremise\thypothesis\tquestion_id", *rows]) + "\n")
    split = prepare(task, "dev", max_length=64, **options)
    assert split.questions is not None and split.questions.tolist() == [0, 1, 0]
