"""Rows that are read and encoded window by window: the same files as at once, the same errors, and flat memory."""

from __future__ import annotations

import errno
import json
import re
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_utils import bars, row_windows, scratch, spool
from data_utils.errors import NotSaved, UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.row_windows import read_windows
from data_utils.rows import read_rows
from data_utils.spool import Stream, joined
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.task_types import TASK_TYPES
from tests.tiny import tiny_tokenizer
from tests.workspace import MORE_TASKS, make_workspace

CLASSES = TaskDef(
    name="t",
    task_type="classification",
    data_format="single",
    labels=("no", "yes"),
    **TASK_TYPES["classification"].defaults,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    make_workspace(folder, more=list(MORE_TASKS), soft=True)
    return folder


def files_of(split: Any) -> tuple[bytes, dict[str, Any]]:
    manifest = json.loads((split.path / "manifest.json").read_text())
    return (split.path / "data.arrow").read_bytes(), manifest


@pytest.mark.parametrize(
    "name", ["same", "negated", "overlap", "odd", "linked", "tagged", "marks", "guessed", "gap", "found"]
)
def test_files_are_those_of_all_rows_at_once(
    name: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task_defs(workspace / "tasks.yml")[name]
    options: dict[str, Any] = {
        "data_dir": workspace / "data",
        "tokenizer": load_tokenizer(str(workspace / "encoder")),
        "max_length": 16,
        "stride": 4,
    }
    found = []
    for size in (10_000, 7):
        monkeypatch.setattr(row_windows, "WINDOW", size)
        split = prepare(task, "train", cache_dir=tmp_path / str(size), **options)
        found.append(files_of(split))
    (whole, manifest), (parts, other) = found
    assert parts == whole
    assert other == manifest and list(other) == list(manifest)


def test_questions_have_the_numbers_of_all_rows_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_tokenizer(tmp_path / "tokenizer")
    names = ["q9", "q1", "q9", "q5", "q1", "q0", "q9"]
    rows = "".join(f"{i}\tyes\tthe cat\t{name}\n" for i, name in enumerate(names))
    (tmp_path / "t_train.tsv").write_text("uid\tlabel\tpremise\tquestion_id\n" + rows)
    monkeypatch.setattr(row_windows, "WINDOW", 2)
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    split = prepare(CLASSES, "train", data_dir=tmp_path, cache_dir=tmp_path, tokenizer=tokenizer, max_length=9)
    assert split.questions is not None and split.questions.tolist() == [3, 1, 3, 2, 1, 0, 3]


@pytest.mark.parametrize(
    ("labels", "test"),
    [
        (["yes", "no", "", "yes"], False),
        (["yes", "no", "", ""], False),
        (["", "", "yes", "no"], False),
        (["yes", "no", "no", "maybe"], False),
        (["0", "0", "yes", "no"], True),
        (["yes", "yes", "0", "0"], True),
        (["0", "0", "-1", "-1"], True),
        (["", "", "0", "0"], True),
        (["0", "0", "", ""], True),
    ],
)
def test_errors_are_those_of_all_rows_at_once(labels: list[str], test: bool, tmp_path: Path) -> None:
    path = tmp_path / "t_test.tsv"
    path.write_text("uid\tlabel\tpremise\n" + "".join(f"{i}\t{label}\tthe cat\n" for i, label in enumerate(labels)))
    with pytest.raises(UserError) as whole:
        read_rows(path, CLASSES, test=test)
    with pytest.raises(UserError, match=re.escape(str(whole.value))):
        list(read_windows(path, CLASSES, test=test, size=2))


def test_soft_labels_of_some_rows(tmp_path: Path) -> None:
    path = tmp_path / "t_train.tsv"
    soft = ['{"no": 0.2, "yes": 0.8}', '{"no": 0.2, "yes": 0.8}', "", ""]
    path.write_text(
        "uid\tlabel\tpremise\tsoft_label\n" + "".join(f"{i}\tyes\tcat\t{text}\n" for i, text in enumerate(soft))
    )
    for size in (2, 4):
        with pytest.raises(UserError, match=f"{path}:4: no soft_label, but other rows have one"):
            list(read_windows(path, CLASSES, size=size))


def test_rows_of_later_windows_have_the_columns_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "t_train.jsonl"
    rows = [{"label": "yes", "premise": "a"}] * 2 + [{"label": "yes", "premise": "a", "more": "b"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=r"jsonl:3: other columns than the rows before \(more added\)"):
        list(read_windows(path, CLASSES, size=2))


def test_memory_does_not_grow_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_windows, "WINDOW", 200)
    monkeypatch.setattr(scratch, "LARGE", 1)
    tiny_tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    peaks = []
    for size in (400, 4000):
        folder = tmp_path / str(size)
        folder.mkdir()
        lines = (f"{number}\tyes\tthe cat sees a red bird\n" for number in range(size))
        (folder / "t_train.tsv").write_text("".join(["uid\tlabel\tpremise\n", *lines]))
        tracemalloc.start()
        prepare(CLASSES, "train", data_dir=folder, cache_dir=folder, tokenizer=tokenizer, max_length=9)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 16 * 3600  # bytes of all further rows; a row as text and tokens has over 500


def many_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of ``prepare`` for rows that take several windows."""
    tiny_tokenizer(folder / "tokenizer")
    (folder / "t_train.tsv").write_text("uid\tlabel\tpremise\n" + "".join(f"{i}\tyes\tthe cat\n" for i in range(9)))
    monkeypatch.setattr(row_windows, "WINDOW", 2)
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    return {"data_dir": folder, "cache_dir": folder / "cache", "tokenizer": tokenizer, "max_length": 9}


def test_one_bar_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, names, real = many_rows(tmp_path, monkeypatch), list[str](), bars.tqdm

    def recorded(items: Any, what: str, *arguments: Any, disable: bool, **named: Any) -> Any:
        names.extend([] if disable else [what])
        return real(items, what, *arguments, disable=disable, **named)

    monkeypatch.setattr(bars, "tqdm", recorded)
    prepare(CLASSES, "train", **options)
    assert names == ["tokenize t_train.tsv"]


def test_a_disk_that_is_full_between_two_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = many_rows(tmp_path, monkeypatch)

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Stream, "append", full)
    with pytest.raises(
        NotSaved, match=r"cache/t_train-.*: prepared data cannot be written \(No space left on device\)"
    ):
        prepare(CLASSES, "train", **options)
    assert list((tmp_path / "cache").iterdir()) == []


def test_rows_that_cannot_be_kept_are_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = many_rows(tmp_path, monkeypatch)

    def read_only(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", read_only)
        found = prepare(CLASSES, "train", **options)
    assert not (tmp_path / "cache").exists() and found.uids == [str(row) for row in range(9)]
    assert found.tokens.tolist() == prepare(CLASSES, "train", **options).tokens.tolist()


@pytest.mark.parametrize("rooms", ["system", "none"])
def test_rows_go_where_there_is_room_if_the_cache_may_only_be_read(
    rooms: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, tried = many_rows(tmp_path, monkeypatch), list[Path | None]()
    real, made = tempfile.TemporaryFile, Path.mkdir

    def refused(*arguments: Any, dir: Path | None = None, **named: Any) -> Any:
        tried.append(dir)
        if dir is not None:
            raise OSError(errno.EACCES, "Permission denied")
        if rooms == "none":
            raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
        return real(*arguments, **named)

    def mkdir(path: Path, *arguments: Any, **named: Any) -> None:
        if path.parent == options["cache_dir"]:
            raise OSError(errno.EACCES, "Permission denied")
        made(path, *arguments, **named)

    monkeypatch.setattr(scratch, "LARGE", 1)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", refused)
        patched.setattr(Path, "mkdir", mkdir)
        found = prepare(CLASSES, "train", **options)
    assert {options["cache_dir"], None} == set(tried) and list(options["cache_dir"].iterdir()) == []
    assert found.batch.equals(prepare(CLASSES, "train", **options).batch)


def test_contexts_that_come_back_are_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_tokenizer(tmp_path / "tokenizer")
    task = TaskDef(name="t", task_type="span", data_format="question_context", labels=(), **TASK_TYPES["span"].defaults)
    contexts = ["the cat sees", "a red bird", "the dog sees a bird"]
    chosen = [contexts[number * number % 3] for number in range(20)]
    rows = [{"question": "the", "context": text, "label": [[0, text[:5]]]} for text in chosen]
    (tmp_path / "t_train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    found = []
    for size in (100, 3):
        monkeypatch.setattr(row_windows, "WINDOW", size)
        folder = tmp_path / str(size)
        found.append(prepare(task, "train", data_dir=tmp_path, cache_dir=folder, tokenizer=tokenizer, max_length=16))
    assert files_of(found[0]) == files_of(found[1])


def test_texts_of_a_dictionary_are_kept_once() -> None:
    texts = [f"context {number % 7}" for number in range(40)]
    parts = [pa.array(texts[start : start + 3]).dictionary_encode() for start in range(0, 40, 3)]
    batch = joined((pa.record_batch([part], ["context"]) for part in parts), lambda: None)
    expected = pa.array(texts).dictionary_encode()
    assert batch.column(0).dictionary.equals(expected.dictionary) and batch.column(0).equals(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["four", "more"], "all texts of a column have more than 7 bytes; divide"),
        ([[1, 2, 3, 4]] * 2, "all lists of a column have more than 7 entries; divide"),
    ],
)
def test_columns_with_too_many_parts(values: list[Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MOST_PARTS", 7)
    batches = [pa.record_batch([pa.array([value])], ["column"]) for value in values]
    with pytest.raises(UserError, match=message):
        joined(batches, lambda: None)
