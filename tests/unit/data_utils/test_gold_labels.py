"""Splits that are scored: placeholders are no gold labels, and every row has its own uid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from tests.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    return load_tokenizer(f"{folder}")


def task(task_type: str, data_format: str, *labels: str, **fields: Any) -> TaskDef:
    defaults = TASK_TYPES[task_type].defaults
    return TaskDef(name="t", task_type=task_type, data_format=data_format, labels=labels, **{**defaults, **fields})


CLASSES = task("classification", "single", "no", "yes")
CHOICES = {"premise": "the", "choices": ["cat", "dog"]}
SPAN = {"question": "the", "context": "the cat"}
ROWS = [  # a task, a row of it, a placeholder and another label
    (CLASSES, {"premise": "the cat"}, "no", "yes"),
    (task("ordinal", "single", "a", "b", "c"), {"premise": "the cat"}, "a", "c"),
    (task("regression", "single"), {"premise": "the cat"}, "0.0", "1.0"),
    (task("multiple_choice", "choices"), CHOICES, 1, 2),
    (task("cloze", "cloze"), {**CHOICES, "query": "@placeholder"}, [1], [1, 2]),
    (task("multi_label", "single", "a", "b"), {"premise": "the cat"}, ["a"], ["a", "b"]),
    (task("sequence_labelling", "words", "O", "B-X"), {"words": "the cat"}, "O O", "O B-X"),
    (task("span", "question_context", no_answer=True), SPAN, [], [[0, "the"]]),
]


def split(
    folder: Path, kind: TaskDef, tokenizer: Any, labels: list[Any], row: dict[str, Any], name: str = "test"
) -> Prepared:
    rows = [{"uid": number, "label": label, **row} for number, label in enumerate(labels)]
    (folder / f"t_{name}.jsonl").write_text("".join(json.dumps(values) + "\n" for values in rows))
    return prepare(kind, name, data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, max_length=16)


@pytest.mark.parametrize(
    ("kind", "row", "placeholder", "other"), ROWS, ids=lambda value: getattr(value, "task_type", "")
)
def test_one_label_for_all_rows_of_a_test_split_is_a_placeholder(
    kind: TaskDef, row: dict[str, Any], placeholder: Any, other: Any, tokenizer: Any, tmp_path: Path
) -> None:
    for _ in ("prepared", "opened again"):
        found = split(tmp_path, kind, tokenizer, [placeholder] * 11, row)
        assert found.labels is None and not found.manifest["labelled"]
        assert found.manifest["notice"].startswith(f"{tmp_path}/t_test.jsonl: all 11 rows have the same label, so")
        assert "set constant_test_labels: true for t in the task file" in found.manifest["notice"]
    gold = kind.model_copy(update={"constant_test_labels": True})
    for found in (
        split(tmp_path, gold, tokenizer, [placeholder] * 11, row),
        split(tmp_path, kind, tokenizer, [placeholder] * 10 + [other], row),
        split(tmp_path, kind, tokenizer, [placeholder] * 10, row),
        split(tmp_path, kind, tokenizer, [placeholder] * 11, row, "dev"),
    ):
        assert found.labels is not None and "notice" not in found.manifest


def test_two_rows_of_a_scored_split_have_two_uids(tokenizer: Any, tmp_path: Path) -> None:
    text = "uid\tlabel\tpremise\na\tno\tthe\n\nb\tyes\tcat\na\tyes\tdog\n"
    options = {"data_dir": tmp_path, "cache_dir": tmp_path / "cache", "tokenizer": tokenizer, "max_length": 16}
    for name in ("train", "dev", "test"):
        (tmp_path / f"t_{name}.tsv").write_text(text)
    assert prepare(CLASSES, "train", **options).uids == ["a", "b", "a"]
    for name in ("dev", "test", "dev"):
        with pytest.raises(UserError) as error:
            prepare(CLASSES, name, **options)
        path = tmp_path / f"t_{name}.tsv"
        assert f"{error.value}" == f"{path}:5: has the uid 'a', as {path}:2 has; give each row another uid"


def test_windows_of_a_row_share_its_uid(tokenizer: Any, tmp_path: Path) -> None:
    kind = task("sequence_labelling", "words", "O", "B-X")
    found = split(tmp_path, kind, tokenizer, ["O " * 39 + "B-X"] * 2, {"words": " ".join(["the"] * 40)}, "dev")
    assert len(found) > 2 and found.uids == ["0", "1"]
