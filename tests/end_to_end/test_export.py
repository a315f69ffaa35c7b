"""Exported folders in transformers' pipelines: they give the predictions of the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from mt_dnn.batches.collate import collate
from mt_dnn.cli.main import main
from mt_dnn.cli.train import train_here
from mt_dnn.inference.export.write import export
from mt_dnn.inference.trained import TrainedModel, load
from tests.exporting import rows_for, run_of


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = "tasks=[same,negated,overlap,tagged,marks,guessed]"
    more = ("tagged", "marks", "guessed")
    return run_of(tmp_path_factory.mktemp("run"), request.param, tasks, "encoder.pooler=family", more=more)


@pytest.fixture
def model(run: Path) -> TrainedModel:
    return load(run)


def piped(run: Path, kind: Any, folder: Path, task: str | None = None, **options: Any) -> Any:
    export(run, folder / "out", task=task, encoder_only=task is None)
    return pipeline(kind, model=str(folder / "out"), **options)


@pytest.mark.parametrize("task", ["same", "negated", "overlap", "marks"])
def test_text_classification(task: str, run: Path, model: TrainedModel, tmp_path: Path) -> None:
    """Classes, numbers and sets of classes, of single texts and pairs."""
    rows = rows_for(task, 12)
    names = {"premise": "text", "hypothesis": "text_pair"}
    given = [{names[column]: text for column, text in row.items()} for row in rows]
    classify = piped(run, "text-classification", tmp_path, task)
    for row, ours in zip(given, model.predict(task, rows), strict=True):
        found = classify(row, truncation=True, top_k=None)
        scores = {entry["label"]: entry["score"] for entry in found}
        # The exported model gives the output itself, the run moves it into the range of values.
        value = ours.get("output", ours["prediction"])
        expected = {"overlap": value} if task == "overlap" else ours["scores"]
        assert scores == pytest.approx(expected, abs=2e-5, rel=1e-5)
        if task not in ("overlap", "marks"):
            assert found[0]["label"] == ours["prediction"]


def test_token_classification(run: Path, model: TrainedModel, tmp_path: Path) -> None:
    """A pipeline joins neighbouring words of an entity; O is left out."""
    rows = rows_for("tagged", 24)
    tag = piped(run, "token-classification", tmp_path, "tagged", aggregation_strategy="first")
    entities = 0
    for row, ours in zip(rows, model.predict("tagged", rows), strict=True):
        found = [(entity["start"], entity["end"]) for entity in tag(row["words"])]
        assert found == list(spans(row["words"].split(" "), ours["prediction"]))
        entities += len(found)
    assert entities > 10


def spans(words: list[str], labels: list[str]) -> Iterator[tuple[int, int]]:
    """Where entities start and end. One begins at a B, or at an I after an O."""
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    starts = ends - [len(word) for word in words]
    numbers, number = list[int](), 0
    for before, label in zip(["O", *labels], labels, strict=False):
        number += label == "B-X" or (label == "I-X" and before == "O")
        numbers.append(0 if label == "O" else number)
    for key, group in groupby(range(len(words)), key=lambda word: numbers[word]):
        inside = list(group)
        if key:
            yield int(starts[inside[0]]), int(ends[inside[-1]])


def test_fill_mask(run: Path, model: TrainedModel, tmp_path: Path) -> None:
    fill = piped(run, "fill-mask", tmp_path, "guessed")
    text = "the small cat sees the [MASK] bird ."
    split: Any = model._encode("guessed", [text])[1]
    position = split.tokens.tolist().index(model.tokenizer.mask_token_id)
    mask = (np.array([position]), np.array([model.tokenizer.mask_token_id]))
    with torch.inference_mode():
        logits = model.model(collate(split, [0], task="guessed", masks=[mask]))
    best = logits[0].softmax(0).topk(5)
    found = fill(text)
    assert [entry["token"] for entry in found] == best.indices.tolist()
    assert [entry["score"] for entry in found] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_feature_extraction(run: Path, model: TrainedModel, tmp_path: Path) -> None:
    extract = piped(run, "feature-extraction", tmp_path)
    texts = [row["premise"] for row in rows_for("negated", 8)]
    states = [np.array(extract(text)[0]) for text in texts]
    assert np.stack([state.mean(0) for state in states]) == pytest.approx(model.embed(texts), abs=1e-5)
    assert np.stack([state[0] for state in states]) == pytest.approx(model.embed(texts, pooling="cls"), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "exported"),
    [
        (["tasks=[same]"], "a model for transformers"),
        (["tasks=[same,negated]", "encoder.pooler=mean"], "the encoder for transformers"),
        (["tasks=[same]", "encoder.scalar_mix=true"], None),
    ],
)
def test_the_commands_that_a_run_ends_with_work(
    options: list[str], exported: str | None, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_here(workspace / "run.yml", [*options, "train.max_steps=1"]) == 0
    _, _, said = capsys.readouterr().out.partition("next:\n")
    commands = {use: command for command, use in (line[9:].split("   ") for line in said.splitlines())}
    assert [use for use in commands if "transformers" in use] == [exported] * (exported is not None)
    rows, folder = workspace / "rows.tsv", workspace / "out"
    rows.write_text("a b\tc d\n")
    for use, command in commands.items():
        if "OTHER_RUN" not in command:
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(command.replace("FILE", str(rows)).replace("FOLDER", str(folder))))
            assert not ended.value.code, use
    assert (folder / "config.json").exists() == (exported is not None)
