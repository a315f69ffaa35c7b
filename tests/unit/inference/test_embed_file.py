"""Vectors of files beside plain transformers."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.cli.main import app, main
from mt_dnn.inference.embed_file import embed_file
from mt_dnn.inference.trained import TrainedModel
from tests.tiny import FAMILIES, tiny_encoder

TEXTS = ["the cat sees a dog", "not", "a small red bird likes the old man , the woman", "the cat", "a dog"]
PAIRS = [(first, second) for first, second in zip(TEXTS, reversed(TEXTS), strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return mt_dnn.load(folder, device="cpu")


def plain(folder: Path, texts: list[Any], pooling: str, level: int | None, dtype: torch.dtype) -> np.ndarray:
    """Pooled states of transformers' model, (N, H)."""
    model, tokenizer = AutoModel.from_pretrained(folder).to(dtype).eval(), AutoTokenizer.from_pretrained(folder)
    columns = [texts] if isinstance(texts[0], str) else [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(**encoded, output_hidden_states=True)
    states = output.last_hidden_state if level is None else output.hidden_states[level]
    mask = encoded["attention_mask"].bool()[..., None]
    return (states[:, 0] if pooling == "cls" else (states * mask).sum(1) / mask.sum(1)).numpy()


def embedded(model: TrainedModel, source: Path, **options: Any) -> tuple[list[str], np.ndarray]:
    parts = list(embed_file(model, str(source), **options))
    return [uid for uids, _ in parts for uid in uids], np.concatenate([vectors for _, vectors in parts])


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "xlm-roberta-xl"])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
def test_vectors_are_those_of_transformers(family: str, texts: list[Any], tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "encoder", family)
    source = tmp_path / "rows.txt"
    source.write_text("".join((row if isinstance(row, str) else "\t".join(row)) + "\n" for row in texts))
    model = mt_dnn.load(encoder, device="cpu")
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model.model.to(dtype)
        for pooling in ("cls", "mean"):
            for level in (None, 0, 1):
                uids, found = embedded(model, source, pooling=pooling, level=level, window=2)
                expected = plain(encoder, texts, pooling, level, dtype)
                assert uids == ["1", "2", "3", "4", "5"] and found.dtype == expected.dtype
                np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("ending", [".npy", ".parquet", ".safetensors"])
def test_the_command_writes_every_format(
    ending: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "rows.csv.gz", tmp_path / f"out{ending}"
    source.write_bytes(gzip.compress(b"uid,body\r\nq,the cat\r\nr,\r\ns,a dog\r\n"))
    options = ["--input", str(source), "--output", str(output), "--columns", "body", "--pooling", "cls", "--level", "1"]
    app(["embed", str(folder), *options, "--batch-size", "1", "--device", "cpu"], standalone_mode=False)
    found: Any
    if ending == ".npy":
        found = np.load(output)
    elif ending == ".safetensors":
        found = load_file(output)["vectors"]
    else:
        assert pq.read_table(output)["uid"].to_pylist() == ["q", "r", "s"]
        found = np.stack(pq.read_table(output)["vector"].to_numpy())
    assert found.shape == (3, 32) and found.dtype == np.float32 and np.isnan(found[1]).all()
    expected = plain(folder, ["the cat", "a dog"], "cls", 1, torch.float32)
    np.testing.assert_allclose(found[[0, 2]], expected, atol=1e-5)
    assert f"mt-dnn: {source}:3: body is empty; its vector is NaN" in capsys.readouterr().err


def test_columns_choose_the_texts(model: TrainedModel, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    records = [{"title": first, "premise": second, "hypothesis": first} for first, second in PAIRS]
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    for columns, texts in (
        (None, [(second, first) for first, second in PAIRS]),
        (["title"], TEXTS),
        (["title", "premise"], PAIRS),
    ):
        _, found = embedded(model, source, columns=columns)
        np.testing.assert_allclose(found, model.embed(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("rows.csv", "body\na\n", None, "no column 'premise'"),
        ("rows.csv", "body\na\n", ["text"], "--columns: no column 'text' .body."),
        ("rows.csv", "a,b,c\n1,2,3\n", ["a", "b", "c"], "--columns: name one column or two, not 3"),
        ("rows.csv", "a,b\n1,2\n", ["a", "a"], "--columns: 'a,a' has an empty name or one twice; name one column or"),
        ("rows.csv", "a,b\n1,2\n", ["a", ""], "--columns: 'a,' has an empty name or one twice; name one column or two"),
        ("rows.csv", "a,b\n1,2\n", [""], "--columns: '' has an empty name or one twice; name one column or two"),
        ("rows.jsonl", '{"premise": ["a"]}\n', ["premise"], "rows.jsonl:1: premise: is no text; name another column"),
        ("rows.txt", "a\tb\tc\n", None, "rows.txt:1: 3 tab-separated fields, the task takes 2"),
    ],
)
def test_what_is_refused(
    name: str, content: str, columns: list[str] | None, message: str, model: TrainedModel, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        embedded(model, tmp_path / name, columns=columns)
    assert "\n" not in str(error.value)


def test_a_failure_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("the cat\na\tb\tc\n")
    options = ["--input", str(tmp_path / "rows.txt"), "--output", str(tmp_path / "out.npy"), "--device", "cpu"]
    with pytest.raises(UserError, match=r"rows.txt:2: 3 tab-separated fields"):
        app(["embed", str(folder), *options], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.txt"]


@pytest.mark.parametrize(
    ("name", "content", "lacks"),
    [
        ("rows.csv", "premise,hypothesis\nthe cat\na dog,not\n", ":2: hypothesis is missing"),
        ("rows.tsv", "premise\thypothesis\n\na dog\tnot\n", ":2: the line is empty"),
        (
            "rows.jsonl",
            '{"premise": "the cat", "hypothesis": null}\n{"premise": "a dog", "hypothesis": "not"}\n',
            ":1:",
        ),
    ],
)
def test_pairs_are_read_where_the_header_says_so(
    name: str, content: str, lacks: str, model: TrainedModel, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    said: list[str] = []
    _, found = embedded(model, tmp_path / name, say=said.append)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:], model.embed([("a dog", "not")]), atol=1e-6)
    assert said[0] == f"{tmp_path / name}: the texts are premise and hypothesis" and f"{name}{lacks}" in said[1]


def test_a_named_column_of_plain_text(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("the cat\na dog\n")
    _, found = embedded(model, tmp_path / "rows.txt", columns=["body"])
    np.testing.assert_allclose(found, model.embed(["the cat", "a dog"]), atol=1e-6)


def test_windows_without_texts_have_the_type_of_the_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("\nthe cat\n")
    model = mt_dnn.load(folder, device="cpu")
    for dtype in (torch.float32, torch.float64):
        model.model.to(dtype)
        parts = list(embed_file(model, str(tmp_path / "rows.txt"), window=1))
        assert [torch.from_numpy(vectors).dtype for _, vectors in parts] == [dtype] * 2


def test_a_stopped_command_leaves_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, received: list[int]
) -> None:
    def stopped(*_: Any, **__: Any) -> Iterator[tuple[list[str], np.ndarray]]:
        yield ["a"], np.zeros((1, 2), np.float32)
        os.kill(os.getpid(), signal.SIGTERM)
        yield ["b"], np.zeros((1, 2), np.float32)

    monkeypatch.setattr("mt_dnn.inference.embed_file.embed_file", stopped)
    with pytest.raises(SystemExit) as exit_:
        main(["embed", str(folder), "--input", "texts.txt", "--output", str(tmp_path / "out.npy")])
    assert exit_.value.code == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == [] and not received
