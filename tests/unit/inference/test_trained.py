"""TrainedModel: predictions, logits and scores of rows in memory are those of files, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.batches.collate import collate
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.tasks.losses import MISSING
from tests.workspace import COLUMNS, MORE_TASKS, SHARING_TASKS, make_workspace, rows_of

TASKS = ["same", "negated", "overlap", *MORE_TASKS, "renamed"]
SHORT = {"data.max_length": 12, "data.stride": 3}  # texts are truncated, or cut into windows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of every task type."""
    folder = tmp_path_factory.mktemp("trained")
    make_workspace(folder, train_rows=16, more=[*MORE_TASKS, *SHARING_TASKS])
    mt_dnn.train(folder / "run.yml", {"tasks": TASKS, "train.epochs": 1, "optimizer.lr": 5e-3, **SHORT})
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return mt_dnn.load(folder / "run")


@pytest.fixture(autouse=True)
def nothing_is_written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = files(folder)
    yield
    assert files(folder) == before


def files(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def columns(task: str, row: tuple[str, ...]) -> tuple[str, ...]:
    return COLUMNS.get(task, ("premise", "hypothesis"))[: len(row) - 2]


def dictionaries(task: str, split: str = "dev") -> list[dict[str, str]]:
    count, seed = (10, 4) if split == "test" else (40, 2)
    rows = rows_of(task, count, seed)
    return [{"uid": row[0], **dict(zip(columns(task, row), row[2:], strict=True))} for row in rows]


def bare(task: str) -> list[Any]:
    """Rows as texts, or tuples of texts."""
    rows = [row[2:] for row in rows_of(task, 40, 2)]
    return [row[0] if len(row) == 1 else row for row in rows]


def written(folder: Path, task: str, split: str = "dev") -> list[dict[str, Any]]:
    """Predictions in the file of a run. Rows from Python have right answers for masked tokens only."""
    unknown = ("question",) if task == "guessed" else ("question", "gold")
    lines = (folder / "run" / "predictions" / f"{task}_{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in unknown} for line in lines]


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_those_of_files(
    task: str, model: TrainedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows as dictionaries, tuples, texts and from a generator; temporary files would be seen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    expected = written(folder, task)
    assert len(expected) == 40
    assert model.predict(task, dictionaries(task)) == expected
    numbered = [{**line, "uid": str(number)} for number, line in enumerate(expected, 1)]
    assert model.predict(task, bare(task)) == model.predict(task, (row for row in bare(task))) == numbered
    if task == "tagged":
        assert model.predict(task, [row.split(" ") for row in bare(task)]) == numbered
    assert not list(tmp_path.iterdir())


def test_a_task_without_training_rows_reads_a_head(model: TrainedModel, folder: Path) -> None:
    assert set(model.tasks) == {*TASKS, "same_hard"} and set(model.trained) == set(TASKS)
    assert model.predict("same_hard", dictionaries("same_hard", "test")) == written(folder, "same_hard", "test")


@pytest.mark.parametrize("task", TASKS)
def test_logits_are_those_of_the_model(task: str, model: TrainedModel) -> None:
    """Row by row, without the rows that share a batch."""
    split = read_splits(model.config, [(model.task(task), "dev")], model.tokenizer)[0][task, "dev"]
    found = model.logits(task, bare(task))
    kind = np.float64 if task == "overlap" else np.float32
    assert len(found) == len(split.firsts) == 40 and all(output.dtype == kind for output in found)
    assert not model.model.training
    windowed = False
    for output, (start, stop) in zip(found, pairwise([*split.firsts, len(split)]), strict=True):
        windowed |= stop - start > 1
        top = 0
        for window in range(start, stop):
            if split.words is not None:
                continue  # masks are drawn by the row's number
            with torch.no_grad():
                logits = model.model(collate(split, [window], task=task)).numpy()
            rows, options = logits.shape
            np.testing.assert_allclose(output[top : top + rows, :options], logits, atol=1e-5)
            assert (output[top : top + rows, options:] == MISSING).all()
            top += rows
        assert split.words is not None or top == len(output)
        if split.words is not None:
            assert output.shape[1] == len(model.tokenizer) and len(output) >= 1
    assert windowed == (task in ("tagged", "chained", "found"))


def test_logits_of_masked_tokens_are_those_behind_the_predictions(model: TrainedModel) -> None:
    for output, line in zip(
        model.logits("guessed", bare("guessed")), model.predict("guessed", bare("guessed")), strict=True
    ):
        assert output.argmax(1).tolist() == line["prediction"]


def test_scores_are_those_of_the_summary(model: TrainedModel, folder: Path) -> None:
    summary = json.loads((folder / "run" / "summary.json").read_text())
    evaluation = model.evaluate()
    assert evaluation.results == summary["results"]
    for result in summary["results"]:
        task, split = result["task"], result["split"]
        labels = [row[1] for row in rows_of(task, *((10, 4) if split == "test" else (40, 2)))]
        rows = [{**row, "label": label} for row, label in zip(dictionaries(task, split), labels, strict=True)]
        assert model.score(task, rows) == result["scores"]
    one = model.evaluate("same", "dev")
    assert [(result["task"], result["split"]) for result in one.results] == [("same", "dev")]
    assert str(one).splitlines()[0].split()[0] == "task" and not one.missing


def test_another_folder_of_rows_and_what_it_lacks(model: TrainedModel, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "same_dev.tsv").write_bytes((folder / "data" / "same_dev.tsv").read_bytes())
    evaluation = model.evaluate(data=str(tmp_path))
    assert [result["task"] for result in evaluation.results] == ["same"]
    (missing,) = evaluation.missing
    assert missing.startswith(f"no rows in {tmp_path} for: same test, negated") and missing.endswith("; skipped")


def test_no_rows_give_no_answers(model: TrainedModel) -> None:
    assert model.predict("same", []) == [] and model.logits("same", iter(())) == []


def test_the_model_stays_as_it_was(model: TrainedModel) -> None:
    """Dropout is off, also for who trains the module in between; a second answer is the first."""
    first = model.predict("same", bare("same"))
    model.model.train()
    assert model.predict("same", bare("same")) == first
    model.model.eval()


def test_what_is_refused_is_one_line(model: TrainedModel, folder: Path, tmp_path: Path) -> None:
    row = {"premise": "a", "hypothesis": "b"}
    calls: list[tuple[Any, str]] = [
        (lambda: model.predict("smae", []), rf"{folder / 'run'}: no task 'smae', did you mean 'same'"),
        (lambda: model.predict("same", [("a", "b"), "c"]), "row 2: has 1 text; a row of same is a tuple"),
        (lambda: model.predict("tagged", ["a", "a  b"]), "row 2: words: two spaces"),
        (lambda: model.predict("found", [("a", "b"), ("a", "")]), "row 2: the tokenizer makes no token of this text"),
        (lambda: model.score("same", [row]), "score: the rows have no 'label', so there is nothing to score"),
        (lambda: model.score("same", []), "score: no rows, so there is nothing to score"),
        (lambda: model.score("same", [{**row, "label": "x"}]), "row 1: label 'x' is not one of different, same"),
        (lambda: model.evaluate("same", "test"), "same_test.tsv: has no labels"),
        (lambda: model.evaluate("same", "train2"), "split 'train2': none of the tasks same has this split"),
        (
            lambda: model.evaluate("same", data=tmp_path),
            "no labelled split of same to score .no rows in .* for: same.; a file is named <task>_<split>.tsv",
        ),
        (lambda: mt_dnn.load(folder / "run", device="cuda:77"), "device: 'cuda:77' is not available here"),
        (lambda: mt_dnn.load(str(tmp_path)), "no checkpoint here"),
    ]
    for call, message in calls:
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_checkpoint_is_a_run_too(folder: Path) -> None:
    (checkpoint,) = (folder / "run" / "checkpoints").iterdir()
    model = mt_dnn.load(checkpoint, device="cpu")
    assert isinstance(model.model, nn.Module) and model.predict("negated", ["a"])[0]["uid"] == "1"


def test_training_rows_are_read_as_the_run_has_read_them(folder: Path, tmp_path: Path) -> None:
    """``data.max_rows`` of the run counts in another folder too, and its tasks need their training rows there."""
    data = shutil.copytree(folder / "data", tmp_path / "data", ignore=shutil.ignore_patterns("prepared"))
    options = {"tasks": ["same", "negated"], "data.max_rows": 6, "train.max_steps": 1, "data.dir": data}
    model = mt_dnn.train(folder / "run.yml", {**options, "output": tmp_path / "run"}).model()
    other = shutil.copytree(data, tmp_path / "other", ignore=shutil.ignore_patterns("prepared"))
    assert {result["rows"] for result in model.evaluate(split="train", data=other).results} == {6}
    (other / "negated_train.tsv").unlink()
    with pytest.raises(UserError, match="negated_train"):
        model.evaluate(split="train", data=other)


def test_threads_may_share_a_model(model: TrainedModel) -> None:
    """Rows that are truncated beside rows that are not: a tokenizer keeps this setting between its calls."""
    short, long = [("the cat", "a dog")] * 3, [("the cat sees " * 40, "a dog " * 40)] * 3
    expected = [model.predict("same", rows) for rows in (short, long)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: model.predict("same", (short, long)[number % 2]), range(40)))
    assert found == expected * 20


def test_a_process_that_is_not_connected_predicts_alone(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.predict("negated", ["the cat", "a dog"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert model.predict("negated", ["the cat", "a dog"]) == expected


def test_loading_leaves_the_random_generator_alone(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    mt_dnn.load(folder / "run")
    assert torch.equal(torch.rand(3), expected)


def test_importing_the_package_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, mt_dnn; assert not {'torch', 'transformers', 'pyarrow'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
    assert mt_dnn.__all__ == ["load", "train"]
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        mt_dnn.laod  # noqa: B018
