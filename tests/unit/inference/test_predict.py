"""Predictions of files are those of rows in memory, in their order, and come window by window."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

import mt_dnn
from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS
from mt_dnn.cli.main import app
from mt_dnn.inference.predict import WINDOW, Wanted, predict_all, predict_file
from mt_dnn.inference.trained import TrainedModel
from tests.cuts import cut
from tests.workspace import MORE_TASKS, make_workspace, rows_of

TASKS = ["same", "negated", "overlap", "graded", "odd", "tagged", "marks", "guessed", "gap", "found"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of every task type."""
    folder = tmp_path_factory.mktemp("predict")
    make_workspace(folder, train_rows=16, more=[*MORE_TASKS])
    options = {"tasks": TASKS, "train.epochs": 1, "optimizer.lr": 5e-3, "data.max_length": 12, "data.stride": 3}
    mt_dnn.train(folder / "run.yml", {**options, "evaluation.predictions": False})
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return mt_dnn.load(folder / "run")


def texts_of(task: str, count: int = 20) -> list[tuple[str, ...]]:
    """Texts of rows, without empty choices."""
    return [tuple(text for text in row[2:] if text) for row in rows_of(task, count, 2)]


def write(path: Path, rows: list[tuple[str, ...]], ending: str = "\n") -> str:
    path.write_text("".join("\t".join(row) + ending for row in rows), newline="")
    return str(path)


def rounded(predictions: Any) -> Any:
    """Numbers to five digits: rows that share a batch with others differ in the last."""
    return json.loads(json.dumps(predictions), parse_float=lambda text: round(float(text), 5) + 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_of_rows_in_memory(task: str, model: TrainedModel, tmp_path: Path) -> None:
    """Whatever the window is. The random masks of masked_lm belong to the number of a row in its window."""
    texts = texts_of(task)
    source = write(tmp_path / "rows.txt", texts)
    expected = model.predict(task, [row[0] if len(row) == 1 else row for row in texts])
    assert list(predict_file(model, task, source)) == expected
    for window in (1, 7, 20) if task != "guessed" else (20,):
        assert rounded(list(predict_file(model, task, source, window=window))) == rounded(expected)


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
def test_other_formats(kind: str, model: TrainedModel, tmp_path: Path) -> None:
    columns, rows = ("uid", "premise", "hypothesis"), [(f"u{n}", *row) for n, row in enumerate(texts_of("same"))]
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        path.write_text("".join({"tsv": "\t", "csv": ","}[kind].join(row) + "\r\n" for row in [columns, *rows]))
    expected = model.predict("same", [dict(zip(columns, row, strict=True)) for row in rows])
    assert expected[3]["uid"] == "u3" and list(predict_file(model, "same", str(path))) == expected


BAD: dict[str, dict[int, tuple[str, ...]]] = {
    "same": {1: ("",), 4: ("the cat", ""), 5: (" ", "a dog"), 6: ("the cat",)},
    "tagged": {0: ("the  cat",), 3: ("",), 4: (" the cat",)},
    "found": {2: ("the cat", ""), 3: ("the cat", "\u200b"), 7: ("the cat", "\u200b")},
    "odd": {1: ("the cat", "a dog"), 2: ("",), 3: ("the cat", "a", "", "b")},
    "guessed": {4: ("\u200b",)},
}


@pytest.mark.parametrize("task", BAD)
@pytest.mark.parametrize("window", [2, 50])
def test_an_empty_row_has_an_empty_prediction_in_its_place(
    task: str, window: int, model: TrainedModel, tmp_path: Path
) -> None:
    good = texts_of(task, 6)
    rows = list(good)
    for number, row in BAD[task].items():
        rows.insert(number, row)
    source = write(tmp_path / "rows.txt", rows)
    found = list(predict_file(model, task, source, window=window))
    assert [line["uid"] for line in found] == [f"{number}" for number in range(1, len(rows) + 1)]
    for number in BAD[task]:
        line = found[number]
        assert line.keys() == {"uid", "prediction", "reason"} and line["prediction"] is None
        assert line["reason"].startswith(f"{source}:{number + 1}: ")
    kept = [line for line in found if line["prediction"] is not None]
    assert len(kept) == 6
    if task != "guessed":
        expected = model.predict(task, [row[0] if len(row) == 1 else row for row in good])
        strip = [{key: value for key, value in line.items() if key != "uid"} for line in kept]
        assert rounded(strip) == rounded([{k: v for k, v in line.items() if k != "uid"} for line in expected])


def test_a_file_of_empty_rows_only(model: TrainedModel, tmp_path: Path) -> None:
    found = list(predict_file(model, "same", write(tmp_path / "rows.txt", [("",)] * 3), window=2))
    assert [line["prediction"] for line in found] == [None] * 3


def test_wrong_rows_stop_with_the_line_of_the_file(model: TrainedModel, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.txt", [*texts_of("same", 5), ("a", "b", "c")])
    with pytest.raises(UserError, match=rf"^{source}:6: 3 tab-separated fields, the task takes 2$"):
        list(predict_file(model, "same", source))
    stream = predict_file(model, "same", source, window=5)
    assert [next(stream)["uid"] for _ in range(5)] == ["1", "2", "3", "4", "5"]


def test_the_first_prediction_comes_before_the_second_window_is_read(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def lines() -> Iterator[bytes]:
        for row in texts_of("same", 20):
            read.append("\t".join(row).encode())
            yield read[-1]

    stream = lines()
    buffer = SimpleNamespace(readline=lambda _: next(stream, b""))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
    found = predict_file(model, "same", "-", window=6)
    assert next(found)["uid"] == "1" and len(read) == 6
    assert [next(found)["uid"] for _ in range(6)][-1] == "7" and len(read) == 12
    assert len(list(found)) == 13


@pytest.mark.parametrize("task", ["same", "marks", "tagged", "odd", "found", "overlap", "guessed"])
def test_logits_are_those_of_the_model(task: str, model: TrainedModel, tmp_path: Path) -> None:
    texts = texts_of(task)
    source = write(tmp_path / "rows.txt", texts)
    expected = model.logits(task, [row[0] if len(row) == 1 else row for row in texts])
    plain = list(predict_file(model, task, source))
    found = list(predict_file(model, task, source, Wanted(logits=True)))
    for line, logits in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.array(line.pop("logits"), logits.dtype), logits)
    assert found == plain


def test_probabilities_are_the_softmax_of_the_logits(model: TrainedModel, tmp_path: Path) -> None:
    texts = texts_of("same")
    source = write(tmp_path / "rows.txt", texts)
    expected = softmax(np.concatenate(model.logits("same", texts)), axis=1)
    found = list(predict_file(model, "same", source, Wanted(probabilities=True)))
    assert [list(line["probabilities"]) for line in found] == [["different", "same"]] * 20
    np.testing.assert_allclose([list(line["probabilities"].values()) for line in found], expected, atol=1e-6)
    words = texts_of("tagged")
    found = list(predict_file(model, "tagged", write(tmp_path / "rows.txt", words), Wanted(probabilities=True)))
    for line, (text,) in zip(found, words, strict=True):
        shares = np.array([line["probabilities"][label] for label in ("O", "B-X", "I-X")])
        assert shares.shape == (3, len(text.split(" ")))
        np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    with pytest.raises(UserError, match=r"--probabilities: overlap has none, it is a regression task; leave it out"):
        next(predict_file(model, "overlap", source, Wanted(probabilities=True)))


def test_all_tasks_that_read_such_rows(model: TrainedModel, tmp_path: Path) -> None:
    texts, said = [*texts_of("same"), ("the cat", " ")], list[str]()
    source = write(tmp_path / "rows.txt", texts)
    found = list(predict_all(model, source, Wanted(probabilities=True, logits=True), window=8, say=said.append))
    pairs = [name for name, task in model.tasks.items() if DATA_FORMATS[task.data_format] == DATA_FORMATS["pair"]]
    assert {"same", "overlap", "graded"} <= set(pairs) and {line.split(" ")[1] for line in said} >= {"negated", "odd"}
    assert [line["uid"] for line in found] == [f"{number}" for number in range(1, 22)]
    for name in pairs:
        wanted = Wanted(probabilities=name != "overlap", logits=True)
        expected = list(predict_file(model, name, source, wanted, window=8))
        assert [{"uid": line["uid"], **line["predictions"][name]} for line in found] == expected
        assert found[-1]["predictions"][name]["prediction"] is None
    assert "probabilities" not in found[0]["predictions"]["overlap"]


def test_values_stay_in_their_range(model: TrainedModel, tmp_path: Path) -> None:
    head: Any = model.model.heads["overlap"]
    bias = head.linear.bias.detach().clone()
    source = write(tmp_path / "rows.txt", texts_of("overlap"))
    try:
        for shift, end in ((100, 5.0), (-100, 0.0)):
            head.linear.bias.data = bias + shift
            found = list(predict_file(model, "overlap", source))
            assert {line["prediction"] for line in found} == {end}
            assert len({line["output"] for line in found}) > 10 and abs(found[0]["output"]) > 20
    finally:
        head.linear.bias.data = bias


def options(folder: Path, source: str, output: Path) -> list[str]:
    return ["predict", str(folder / "run"), "--task", "same", "--input", source, "--output", str(output)]


def test_a_killed_command_leaves_whole_lines(
    folder: Path, model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when it asks for the first row of the second window."""
    output = tmp_path / "out.jsonl"
    texts = texts_of("same")

    def lines() -> Iterator[bytes]:
        for number in range(WINDOW):
            yield "\t".join(texts[number % 20]).encode() + b"\n"
        os.kill(os.getpid(), signal.SIGKILL)

    stream = lines()
    buffer = SimpleNamespace(readline=lambda _: next(stream, b""))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=buffer))
    monkeypatch.setattr("mt_dnn.inference.trained.load", lambda *_, **__: model)
    command = options(folder, "-", output)
    code = cut(lambda: app(command, standalone_mode=False), resource.RLIM_INFINITY, killed=False)
    assert code == -signal.SIGKILL and not output.exists()
    content = (tmp_path / "out.jsonl.partial").read_text()
    found = [json.loads(line) for line in content.splitlines()]
    assert content.endswith("\n") and [line["uid"] for line in found] == [f"{n}" for n in range(1, WINDOW + 1)]
    labels = [line["prediction"] for line in model.predict("same", texts)]
    assert [line["prediction"] for line in found] == labels * (WINDOW // 20)


def test_tasks_with_names_of_columns_of_their_own(model: TrainedModel, tmp_path: Path) -> None:
    """Each task reads the columns that the task file names; rows with our names are read too."""

    def mapped(name: str, **columns: str) -> TaskDef:
        return model.tasks[name].model_copy(update={"columns": columns})

    tasks = {
        "same": mapped("same", premise="Text A", hypothesis="premise", uid="Key"),
        "negated": mapped("negated", premise="Text B"),
        "odd": mapped("odd", premise="Text A", choices="Options"),
        "overlap": model.tasks["overlap"],
    }
    named = copy(model)
    named.tasks = tasks
    rows = [(*texts, *other) for texts, other in zip(texts_of("same", 6), texts_of("negated", 6), strict=True)]
    records = [
        {"Key": f"k{number}", "Text A": first, "premise": second, "Text B": other}
        for number, (first, second, other) in enumerate(rows)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    same, negated = model.predict("same", [row[:2] for row in rows]), model.predict("negated", [row[2] for row in rows])
    expected = [{**record, "uid": f"k{number}"} for number, record in enumerate(same)]
    assert rounded(list(predict_file(named, "same", str(source)))) == rounded(expected)
    assert rounded(named.predict("same", records)) == rounded(expected)
    said: list[str] = []
    together = list(predict_all(named, str(source), say=said.append))
    assert [list(row["predictions"]) for row in together] == [["same", "negated"]] * 6
    assert [row["predictions"]["negated"]["prediction"] for row in together] == [row["prediction"] for row in negated]
    assert [row["uid"] for row in together] == [f"k{number}" for number in range(6)]
    assert said == [
        f"{source}: odd is left out, it reads other columns (Text A, Options)",
        f"{source}: overlap is left out, it reads other columns (premise, hypothesis)",
    ]
    ours = write(tmp_path / "ours.tsv", [("premise", "hypothesis"), *(row[:2] for row in rows)])
    assert rounded(list(predict_file(named, "same", ours))) == rounded(same)


def test_the_command_and_its_options(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "rows.txt", texts_of("same", 4))
    more = ["--batch-size", "1", "--logits", "--probabilities"]
    app([*options(folder, source, tmp_path / "out.jsonl"), *more], standalone_mode=False)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(found) == 4 and list(found[0]) == ["uid", "prediction", "scores", "probabilities", "logits"]
    capsys.readouterr()
    app(["predict", str(folder / "run"), "--all-tasks", "--input", source], standalone_mode=False)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 4 and "same" in json.loads(captured.out.splitlines()[0])["predictions"]
    assert f"mt-dnn: {source}: negated is left out, it reads other columns (premise)" in captured.err
    for wrong, message in (
        (["--task", "same", "--all-tasks"], "--task same: does not go with --all-tasks"),
        ([], r"has several tasks; give one of same \(pair\), negated \(single\)"),
        (["--task", "same", "--output", "answers.csv"], "predictions are JSON lines; give a name that ends in .jsonl"),
        (["--task", "same", "--batch-size", "0"], "batch_size: write a whole number from 1 on"),
    ):
        with pytest.raises(UserError, match=message):
            app(["predict", str(folder / "run"), "--input", source, *wrong], standalone_mode=False)
