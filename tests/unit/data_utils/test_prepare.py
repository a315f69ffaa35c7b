"""Rows to Arrow: contents, cache, truncation, one bad file among good ones, and no torch."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_utils.encoded_rows import encode_rows
from data_utils.encoder_names import resolve_name
from data_utils.errors import MissingRows, NotSaved, UserError
from data_utils.features import load_tokenizer, save_tokenizer
from data_utils.files import checksum
from data_utils.kept import unkept_notice
from data_utils.prepare import SHARED_FIELDS, fingerprint, prepare, prepare_all
from data_utils.prepared import FORMAT, Prepared
from data_utils.row_windows import read_windows
from data_utils.rows import Rows, read_rows
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.task_types import TASK_TYPES
from tests import ROOT
from tests.tiny import tiny_tokenizer
from tests.workspace import MORE_TASKS, TASK_DEFS, make_workspace

TASK = TaskDef(
    name="nli",
    task_type="classification",
    data_format="pair",
    labels=("no", "yes"),
    **TASK_TYPES["classification"].defaults,
)
TEXT = "1\tyes\tthe cat\ta dog sees\n2\tno\tthe small red bird\ta man\n"


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    tiny_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nli_train.tsv").write_text(TEXT)
    tokenizer = load_tokenizer(str(tmp_path / "tokenizer"))
    return {
        "data_dir": tmp_path / "data",
        "cache_dir": tmp_path / "cache",
        "tokenizer": tokenizer,
        "max_length": 16,
    }


def test_rows_are_what_the_tokenizer_gives(options: dict[str, Any]) -> None:
    split = prepare(TASK, "train", **options)
    tokenizer = options["tokenizer"]
    for row, texts in enumerate((("the cat", "a dog sees"), ("the small red bird", "a man"))):
        expected = tokenizer(*texts, return_token_type_ids=True)
        part = slice(split.offsets[row], split.offsets[row + 1])
        assert split.tokens[part].tolist() == expected["input_ids"]
        assert split.token_types[part].tolist() == expected["token_type_ids"]
    assert split.labels is not None and split.labels.tolist() == [1, 0] and split.labels.dtype == np.int64
    assert split.uids == ["1", "2"]
    assert split.lengths.tolist() == [8, 9] and len(split) == 2
    manifest = split.manifest
    assert (manifest["rows"], manifest["tokens"], manifest["truncated"]) == (2, 17, 0)
    assert manifest["length"] == {"min": 8, "mean": 8.5, "max": 9}


def test_one_file_is_prepared_for_each_choice_of_columns(options: dict[str, Any]) -> None:
    """The kept files of a task without columns of its own are those of earlier versions."""
    assert tuple(prepare(TASK, "train", **options).manifest["definition"]) == SHARED_FIELDS
    (options["data_dir"] / "nli_train.tsv").unlink()
    (options["data_dir"] / "rows.tsv").write_text("A\tB\tlabel\nthe cat\ta dog\tyes\n")
    folders = []
    for first, second in (("A", "B"), ("B", "A")):
        columns = {"premise": first, "hypothesis": second}
        task = TASK.model_copy(update={"columns": columns, "files": {"train": "rows.tsv"}})
        split = prepare(task, "train", **options)
        expected = options["tokenizer"](*(("the cat", "a dog") if first == "A" else ("a dog", "the cat")))
        assert split.tokens.tolist() == expected["input_ids"]
        folders.append(split.path)
    assert len(set(folders)) == 2 == len(list(options["cache_dir"].glob("nli_train-*"))) - 1


@pytest.fixture(scope="module")
def every_type(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every_type")
    make_workspace(folder, train_rows=12, more=list(MORE_TASKS), soft=True)
    return folder


@pytest.mark.parametrize("name", [name for name in {**TASK_DEFS, **MORE_TASKS} if name != "same_hard"])
def test_rows_in_memory_are_the_rows_of_a_file(every_type: Path, name: str) -> None:
    """Of every task type, labelled and with soft labels, the arrays in memory are those that are kept in files."""
    task = load_task_defs(every_type / "tasks.yml")[name]
    tokenizer = load_tokenizer(str(every_type / "encoder"))
    lengths: dict[str, Any] = {"max_length": 14, "stride": 3}
    folders: dict[str, Any] = {"data_dir": every_type / "data", "cache_dir": every_type / "cache"}
    kept = prepare(task, "train", tokenizer=tokenizer, **folders, **lengths)
    files = sorted(every_type.rglob("*"))
    fresh = encode_rows(read_rows(every_type / "data" / f"{name}_train.tsv", task), task, tokenizer, **lengths)
    assert sorted(every_type.rglob("*")) == files
    assert fresh.batch.equals(kept.batch) and fresh.manifest.items() <= kept.manifest.items()
    for field in fields(Prepared):
        left, right = getattr(fresh, field.name), getattr(kept, field.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype and np.array_equal(left, right), field.name
        assert (left is None) == (right is None), field.name


def test_overlong_rows_are_truncated_and_counted(options: dict[str, Any]) -> None:
    split = prepare(TASK, "train", **{**options, "max_length": 8})
    assert split.lengths.tolist() == [8, 8] and split.manifest["truncated"] == 1
    expected = options["tokenizer"]("the small red bird", "a man", truncation=True, max_length=8)["input_ids"]
    assert split.tokens[8:].tolist() == expected


def test_truncated_counts_rows_that_lose_text(options: dict[str, Any], tmp_path: Path) -> None:
    """Not sequences of choices, nor the windows of a text that is kept whole."""
    long = " ".join(["cat"] * 50)
    for kind, form, labels, lines, expected in (
        ("multiple_choice", "choices", (), f"premise\tchoice1\tchoice2\n1\t{long}\ta\tb\n2\tcat\ta\tb\n", 1),
        ("sequence_labelling", "words", ("O", "B-X"), f"words\n1\t{long}\n", 0),
        ("span", "question_context", (), f"question\tcontext\n1\tcat\t{long}\n2\t{long}\tcat\n", 1),
    ):
        (tmp_path / "data" / f"{kind}_test.tsv").write_text(f"uid\t{lines}")
        task = TaskDef(name=kind, task_type=kind, data_format=form, labels=labels, **TASK_TYPES[kind].defaults)
        assert prepare(task, "test", **{**options, "max_length": 120, "stride": 4}).manifest["truncated"] == 0
        assert prepare(task, "test", **{**options, "max_length": 20, "stride": 4}).manifest["truncated"] == expected


def test_cache_is_by_content(options: dict[str, Any], tmp_path: Path) -> None:
    first = prepare(TASK, "train", **options)
    written = (first.path / "data.arrow").stat().st_mtime_ns
    same = prepare(TASK.model_copy(update={"metrics": ("mcc",), "dropout": 0.3}), "train", **options)
    assert same.path == first.path and (same.path / "data.arrow").stat().st_mtime_ns == written
    tiny_tokenizer(tmp_path / "other", extra_words=["zebra"])
    changes: list[dict[str, Any]] = [{"max_length": 9}, {"tokenizer": load_tokenizer(str(tmp_path / "other"))}]
    others = [prepare(TASK, "train", **{**options, **change}).path for change in changes]
    others.append(prepare(TASK, "train", max_rows=1, **options).path)
    others.append(prepare(TASK.model_copy(update={"labels": ("yes", "no")}), "train", **options).path)
    (tmp_path / "data" / "nli_train.tsv").write_text(TEXT.replace("cat", "dog"))
    others.append(prepare(TASK, "train", **options).path)
    assert len({first.path, *others}) == 6


@pytest.mark.parametrize("setting", [{"truncation_side": "left"}, {"split_special_tokens": True}])
def test_the_cache_knows_settings_that_change_ids(
    setting: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "data" / "nli_train.tsv").write_text(TEXT.replace("dog", "[MASK] dog"))
    options["max_length"] = 8
    usual = prepare(TASK, "train", **options)
    file = tmp_path / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **setting}))
    options["tokenizer"] = load_tokenizer(str(tmp_path / "tokenizer"))
    found = prepare(TASK, "train", **options)
    fresh = prepare(TASK, "train", **{**options, "cache_dir": tmp_path / "fresh"})
    assert found.tokens.tolist() == fresh.tokens.tolist() != usual.tokens.tolist()
    save_tokenizer(options["tokenizer"], tmp_path / "saved")  # as a checkpoint has it
    assert fingerprint(load_tokenizer(str(tmp_path / "saved"))) == fingerprint(options["tokenizer"])


def test_settings_that_change_no_ids_are_not_in_the_fingerprint(options: dict[str, Any]) -> None:
    tokenizer = options["tokenizer"]
    tokenizer.padding_side, tokenizer.model_input_names = "left", ["input_ids"]
    assert fingerprint(tokenizer) == "4491cfccb5616b65"  # of earlier versions


def test_regression_and_unlabelled(options: dict[str, Any], tmp_path: Path) -> None:
    score = TaskDef(name="sts", task_type="regression", data_format="pair", **TASK_TYPES["regression"].defaults)
    (tmp_path / "data" / "sts_train.tsv").write_text("1\t2.5\tthe cat\ta dog\n")
    (tmp_path / "data" / "sts_test.tsv").write_text("1\t\tthe cat\ta dog\n")
    labels = prepare(score, "train", **options).labels
    assert labels is not None and labels.dtype == np.float64 and labels.tolist() == [2.5]
    assert prepare(score, "test", **options).labels is None


def score_task(folder: Path, rows: str) -> TaskDef:
    (folder / "data" / "sts_train.tsv").write_text(rows)
    return TaskDef(name="sts", task_type="regression", data_format="pair", **TASK_TYPES["regression"].defaults)


def as_an_earlier_version_wrote_it(path: Path) -> None:
    """Replaces the kept numbers by float32 ones."""
    data, manifest = path / "data.arrow", json.loads((path / "manifest.json").read_text())
    batch = pa.ipc.open_file(data.read_bytes()).get_batch(0)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns["label"] = columns["label"].cast(pa.float32(), safe=False)
    columns["soft"] = columns["soft"].cast(pa.large_list(pa.float32()), safe=False)
    batch = pa.RecordBatch.from_pydict(columns)
    with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    (path / "manifest.json").write_text(json.dumps({**manifest, "checksum": checksum(data)}))


def test_numbers_far_from_zero_stay_different(options: dict[str, Any], tmp_path: Path) -> None:
    numbers = [1e9 + 0.25, 1e9 + 0.5]  # the same number in float32
    header, texts = "uid\tlabel\tpremise\thypothesis\tsoft_label\n", "the cat\ta dog"
    task = score_task(tmp_path, header + "".join(f"{y}\t{y!r}\t{texts}\t{y!r}\n" for y in numbers))
    kept = prepare(task, "train", **options)
    rows = read_rows(tmp_path / "data" / "sts_train.tsv", task)
    encoded = encode_rows(rows, task, options["tokenizer"], max_length=16)
    for split in (kept, encoded):
        assert split.labels is not None and split.labels.tolist() == numbers
        assert split.soft is not None and split.soft.tolist() == numbers
    as_an_earlier_version_wrote_it(kept.path)
    again = prepare(task, "train", **options)
    assert again.path != kept.path and again.manifest["hash"] == kept.manifest["hash"]
    assert again.labels is not None and again.labels.tolist() == numbers
    written = (again.path / "data.arrow").stat().st_mtime_ns
    assert prepare(task, "train", **options).path == again.path
    assert (again.path / "data.arrow").stat().st_mtime_ns == written


def test_kept_numbers_of_an_earlier_version_are_read_where_they_are_exact_enough(
    options: dict[str, Any], tmp_path: Path
) -> None:
    header = "uid\tlabel\tpremise\thypothesis\tsoft_label\n"
    task = score_task(tmp_path, f"{header}1\t3.8\tthe cat\ta dog\t3.7\n2\t0.2\ta cat\ta dog\t0.4\n")
    kept = prepare(task, "train", **options)
    as_an_earlier_version_wrote_it(kept.path)
    again = prepare(task, "train", **options)
    assert again.path == kept.path and again.labels is not None and again.labels.dtype == np.float32
    assert again.labels.tolist() == np.array([3.8, 0.2], np.float32).tolist()
    assert not list(kept.path.parent.glob("*float64"))


def test_one_bad_file_leaves_the_others_unharmed(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data" / "nli_test.tsv").write_text("1\tmaybe\tx\ty\n")
    done, problems = prepare_all([(TASK, split) for split in ("train", "dev", "test")], **options)
    assert list(done) == [("nli", "train")]
    assert isinstance(problems["nli", "dev"], MissingRows) and "nli_dev.tsv" in str(problems["nli", "dev"])
    assert "nli_test.tsv:1: label 'maybe'" in str(problems["nli", "test"])


def test_damaged_cache_and_unwritable_cache_are_named(options: dict[str, Any], tmp_path: Path) -> None:
    path = prepare(TASK, "train", **options).path
    manifest = (path / "manifest.json").read_text()
    for name, content in (("manifest.json", "{}"), ("manifest.json", "[]"), ("data.arrow", "no arrow")):
        (path / "manifest.json").write_text(manifest)
        (path / name).write_text(content)
        with pytest.raises(UserError, match="prepared data is damaged"):
            Prepared.open(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(TASK, "train", **{**options, "cache_dir": tmp_path / "file"})


def test_names(tmp_path: Path) -> None:
    assert resolve_name("bert-base-uncased") == "bert-base-uncased"
    assert Path(resolve_name("package:email/mime")).is_dir()
    for name in ("package:no_such_package/x", "package:email/none", str(tmp_path / "none")):
        with pytest.raises(UserError, match=name):
            resolve_name(name)
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_data_utils_runs_without_torch() -> None:
    """Every module imports where torch cannot be imported."""
    modules = sorted(path.stem for path in (ROOT / "data_utils").glob("[a-z]*.py"))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        + "".join(f"import data_utils.{module}\n" for module in modules)
        + "assert not any(name.startswith('torch.') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_rows_that_are_replaced_while_they_are_read_are_not_kept(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "data" / "nli_train.tsv"

    def read_and_replace(*arguments: Any, **named: Any) -> Iterator[Rows]:
        file.write_text(TEXT.replace("cat", "dog"))
        return read_windows(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr("data_utils.prepare.read_windows", read_and_replace)
        with pytest.raises(UserError, match=r"nli_train.tsv: was changed while it was read"):
            prepare(TASK, "train", **options)
    assert not (tmp_path / "cache").exists()
    file.write_text(TEXT)
    split, tokenizer = prepare(TASK, "train", **options), options["tokenizer"]
    assert split.tokens[: split.offsets[1]].tolist() == tokenizer("the cat", "a dog sees")["input_ids"]


def test_two_processes_of_the_same_number_prepare_the_same_rows(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers share a cache. One of them prepares the rows while the other one writes them."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    inner = dict[str, Any]()

    def slow(data: Path) -> str:
        monkeypatch.setattr("data_utils.kept.checksum", checksum)
        inner["split"] = prepare(TASK, "train", **options)
        return checksum(data)

    monkeypatch.setattr("data_utils.kept.checksum", slow)
    outer = prepare(TASK, "train", **options)
    assert outer.path == inner["split"].path and outer.tokens.tolist() == inner["split"].tokens.tolist()
    assert [path.name for path in outer.path.parent.iterdir()] == [outer.path.name]


def test_a_changed_token_in_the_cache_is_noticed(options: dict[str, Any]) -> None:
    split = prepare(TASK, "train", **options)
    data, tokens = split.path / "data.arrow", split.tokens.tobytes()
    content = data.read_bytes()
    assert content.count(tokens) == 1
    data.write_bytes(content.replace(tokens, (split.tokens + (split.tokens == split.tokens.max())).tobytes()))
    with pytest.raises(UserError, match=r"prepared data is damaged \(data.arrow was changed\); delete the folder"):
        prepare(TASK, "train", **options)


def test_the_cache_has_a_format(options: dict[str, Any]) -> None:
    path = prepare(TASK, "train", **options).path
    manifest = json.loads((path / "manifest.json").read_text())
    for written in (FORMAT + 1, 0, "x", None):
        (path / "manifest.json").write_text(json.dumps({**manifest, "format": written}))
        with pytest.raises(UserError, match="is unknown, this version reads up to 3; update mt-dnn"):
            Prepared.open(path)
    older = {key: value for key, value in manifest.items() if key not in ("checksum", "format")}
    (path / "manifest.json").write_text(json.dumps(older))
    assert len(Prepared.open(path)) == 2


def test_a_folder_that_may_not_be_written_costs_time_and_not_the_run(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = prepare(TASK, "train", **options)

    def refused(path: Path, **_: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    split = prepare(TASK, "train", **{**options, "cache_dir": options["cache_dir"] / "other"})
    assert split.tokens.tolist() == kept.tokens.tolist() and split.uids == kept.uids
    assert split.manifest["hash"] == kept.manifest["hash"]
    notice = f"{options['cache_dir']}/other: cannot be written (Read-only file system), so rows are prepared anew"
    assert [line.partition(" each time")[0] for line in unkept_notice([kept, split])] == [notice]
    assert unkept_notice([kept]) == []
    (options["data_dir"] / "nli_train.tsv").write_text(TEXT)
    assert prepare(TASK, "train", **options).manifest == kept.manifest


def test_a_full_disk_is_no_folder_that_may_not_be_written(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(NotSaved, match="prepared data cannot be written"):
        prepare(TASK, "train", **options)


@pytest.mark.parametrize(("column", "value"), [("token", 5000), ("token", -1), ("label", 2), ("label", -7)])
def test_numbers_that_are_no_tokens_or_labels_are_damage(options: dict[str, Any], column: str, value: int) -> None:
    folder = prepare(TASK, "train", **options).path
    data, name = folder / "data.arrow", {"token": "tokens", "label": "label"}[column]
    batch = pa.ipc.open_file(data.read_bytes()).get_batch(0)
    numbers = batch.column(name).values if column == "token" else batch.column(name)
    changed = pa.array([value, *numbers.to_pylist()[1:]], numbers.type)
    if column == "token":
        changed = pa.LargeListArray.from_arrays(batch.column(name).offsets, changed)
    columns = [changed if field.name == name else batch.column(field.name) for field in batch.schema]
    with pa.OSFile(str(data), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=batch.schema))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": checksum(data)}))
    with pytest.raises(UserError, match=rf"prepared data is damaged \({column} {value}, of \d+\); delete the folder"):
        prepare(TASK, "train", **options)


@pytest.mark.parametrize("key", ["rows", "source", "hash", "labelled", "truncated"])
@pytest.mark.parametrize("value", [None, [], "absent"])
def test_a_manifest_that_lacks_a_value_is_damaged(options: dict[str, Any], key: str, value: object) -> None:
    file = prepare(TASK, "train", **options).path / "manifest.json"
    manifest = json.loads(file.read_text())
    if value == "absent":
        del manifest[key]
    else:
        manifest[key] = value
    file.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"prepared data is damaged \('?{key}"):
        prepare(TASK, "train", **options)
