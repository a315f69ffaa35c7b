"""mt-dnn export --to onnx, run by ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from data_utils.errors import UserError
from mt_dnn.inference.export import onnx_file
from mt_dnn.inference.export.model import task_model
from mt_dnn.inference.export.onnx_file import FILE, PACKAGES, TOLERANCE, example, largest_difference, quantize
from mt_dnn.inference.export.write import export
from mt_dnn.inference.trained import load
from tests.exporting import rows_for, run_of, texts_for


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("run"), "bert", "tasks=[same]", more=())


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in PACKAGES:
        pytest.importorskip(package, reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("onnx") / "out"
    export(run, folder, target="onnx", task="same")
    return folder


def logits(folder: Path, rows: list[dict[str, str]]) -> np.ndarray:
    """What ONNX Runtime makes of rows, read as the card says."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
    texts = [texts_for("same", row)[0] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first, second = ([text[number] for text in texts] for number in (0, 1))
    inputs = tokenizer(first, second, truncation=True, padding=True, return_tensors="np")
    return session.run(None, dict(inputs))[0]


@pytest.mark.parametrize("count", [1, 7, 40])
def test_logits_are_those_of_the_run_at_other_sizes(count: int, exported: Path, run: Path) -> None:
    rows = rows_for("same", count, seed=count)
    expected = np.concatenate(load(run).logits("same", rows))
    assert logits(exported, rows) == pytest.approx(expected, abs=1e-4)


def test_the_folder_holds_what_its_users_need(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "README.md",
        "config.json",
        FILE,
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((exported / "config.json").read_text())["id2label"] == {"0": "different", "1": "same"}
    assert "library_name: onnx" in (exported / "README.md").read_text(encoding="utf-8")


def test_a_graph_of_another_model_is_noticed(exported: Path, run: Path) -> None:
    built: Any = task_model(load(run), "same")
    assert largest_difference(built, exported / FILE, example(built, (3, 11))) < TOLERANCE
    with torch.no_grad():
        built.classifier.bias += 0.01
    assert largest_difference(built, exported / FILE, example(built, (3, 11))) > TOLERANCE


def test_a_graph_that_gives_no_numbers_is_noticed(exported: Path, run: Path) -> None:
    built: Any = task_model(load(run), "same")
    with torch.no_grad():
        built.classifier.bias += float("nan")
    assert not largest_difference(built, exported / FILE, example(built, (3, 11))) <= TOLERANCE


def test_differences_are_those_of_the_unit_of_the_values(exported: Path, run: Path, tmp_path: Path) -> None:
    """A regression in thousands cannot be exact to 1e-4."""
    import onnx
    from onnx import numpy_helper

    graph, built = onnx.load(exported / FILE), cast(Any, task_model(load(run), "same"))
    for weight in graph.graph.initializer:
        if weight.name.startswith("classifier"):
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e5), weight.name))
    onnx.save(graph, tmp_path / FILE)
    with torch.no_grad():
        for weight in built.classifier.parameters():
            weight *= 1e5
    inputs = example(built, (3, 11))
    assert largest_difference(built, tmp_path / FILE, inputs) < TOLERANCE
    with torch.no_grad():
        built.classifier.bias += 0.001 * built(**inputs).logits.abs().max()
    assert largest_difference(built, tmp_path / FILE, inputs) > TOLERANCE


def test_int8_concerns_linear_layers_only(exported: Path, tmp_path: Path) -> None:
    import onnx

    folder = tmp_path / "int8"
    shutil.copytree(exported, folder)
    quantize(folder / FILE)
    kinds = {weight.name: (weight.data_type, len(weight.dims)) for weight in onnx.load(folder / FILE).graph.initializer}
    eight = [name for name, (kind, dims) in kinds.items() if kind == onnx.TensorProto.INT8 and dims == 2]
    assert len(eight) == 2 * 6 + 2, "six layers of each block, the pooler and the head"
    assert (onnx.TensorProto.FLOAT, 2) in kinds.values() and not [name for name in eight if "embedding" in name]
    rows = rows_for("same", 40)
    full, rounded = logits(exported, rows), logits(folder, rows)
    assert 0 < np.abs(full - rounded).max() < 0.1 * full.std() + 0.05
    assert not list(folder.glob("quantized*"))


def test_without_the_extra_it_is_said(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    said = r"onnx, onnxscript, onnxruntime is not installed; pip install 'mt-dnn\[onnx\]'"
    with pytest.raises(UserError, match=said):
        export(run, tmp_path / "out", target="onnx", task="same")
    assert list(tmp_path.iterdir()) == []
