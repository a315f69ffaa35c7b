"""Predictions in row order, label maps, selection of the best model, constant baselines, tables."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mt_dnn
from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.batches.collate import collate
from mt_dnn.runs.evaluate import baseline, check_selection, dev_scores, predict_split, selection_score
from mt_dnn.runs.outputs import Passes
from mt_dnn.runs.predictions import prediction_records
from mt_dnn.runs.score_table import score_table, score_text
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.classification import Classes
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.regression import Values
from mt_dnn.tasks.run_tasks import training_tasks
from tests.parts import parts
from tests.workspace import make_workspace

# Decoding reads nothing else of it.
SPLIT: Any = SimpleNamespace(each_uid=lambda: iter(["u", "v"]), row_count=2, labels=None, questions=None)


def task(name: str = "mine", **fields: Any) -> TaskDef:
    kind = fields.setdefault("task_type", "classification")
    if kind == "classification":
        fields.setdefault("labels", ("a", "b"))
    return TaskDef(name=name, data_format="single", **{**TASK_TYPES[kind].defaults, **fields})


def test_predictions_come_in_row_order_with_dropout_off(workspace: Path) -> None:
    run = parts(workspace, "encoder.dropout=0.5")
    definition, split = run.tasks.trained["same"], run.splits["same", "dev"]
    decoded = predict_split(run.model, definition, definition, split, passes(max_tokens=40))
    assert run.model.training
    run.model.eval()
    with torch.no_grad():
        one_by_one = [run.model(collate(split, [row], task="same"))[0].softmax(-1).numpy() for row in range(len(split))]
    np.testing.assert_allclose(decoded.scores, np.stack(one_by_one), atol=1e-6)


def passes(**options: Any) -> Passes:
    return Passes(precision="fp32", device=torch.device("cpu"), **options)


@given(
    lengths=st.lists(st.integers(1, 40), max_size=60),
    max_tokens=st.integers(1, 200),
    max_rows=st.none() | st.integers(1, 9),
)
def test_batches_hold_as_many_rows_of_like_length_as_fit(
    lengths: list[int], max_tokens: int, max_rows: int | None
) -> None:
    batches = passes(max_tokens=max_tokens, max_rows=max_rows).batches(np.array(lengths, np.int64))
    order = [int(row) for batch in batches for row in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)

    def fits(rows: list[int]) -> bool:
        return len(rows) * max(lengths[row] for row in rows) <= max_tokens and len(rows) <= (max_rows or len(rows))

    for batch in batches:
        assert fits(batch.tolist()) or len(batch) == 1
    for batch, later in pairwise(batches):
        assert not fits([*batch.tolist(), int(later[0])])


def test_label_map_adds_probabilities() -> None:
    owner = task("owner", labels=("contradiction", "neutral", "entailment"))
    mapping = {"contradiction": "no", "neutral": "no", "entailment": "yes"}
    reader = task(labels=("yes", "no"), head="owner", splits=("test",), label_map=mapping)
    logits = np.log([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    decoded = Classes()(reader, owner, SPLIT, list(logits[:, None]))
    np.testing.assert_allclose(decoded.scores, [[0.4, 0.6], [0.8, 0.2]])
    assert decoded.predictions.tolist() == [1, 0]  # "no", although entailment was the likeliest single class
    assert Classes()(owner, owner, SPLIT, list(1e4 * logits[:, None])).scores.sum() == pytest.approx(2)  # no overflow


def test_real_values_are_not_rounded_and_stay_in_their_range() -> None:
    score = task(task_type="regression", value_range=(0, 5))
    decoded = Values()(score, score, SPLIT, [np.array([[1.25]]), np.array([[6.5]])])
    assert decoded.predictions.tolist() == [1.25, 5]
    assert list(prediction_records(score, SPLIT, decoded)) == [
        {"uid": "u", "prediction": 1.25},
        {"uid": "v", "prediction": 5, "output": 6.5},
    ]
    free = task(task_type="regression")
    decoded = Values()(free, free, SPLIT, [np.array([[1.25]]), np.array([[6.5]])])
    assert [record["prediction"] for record in prediction_records(free, SPLIT, decoded)] == [1.25, 6.5]


def test_every_task_type_has_a_kind() -> None:
    assert set(KINDS) == set(TASK_TYPES)


SCORES: dict[str, Any] = {
    "a": {"dev_1": {"accuracy": 0.5, "confusion_matrix": [[1]]}, "dev_2": {"accuracy": 0.7}},
    "b": {"dev": {"pearson": 0.2, "spearman": 0.4}},
}


@pytest.mark.parametrize(("metric", "value"), [("mean", 0.45), ("a", 0.6), ("b", 0.3), ("b.spearman", 0.4)])
def test_selection_score(metric: str, value: float) -> None:
    assert selection_score(metric, SCORES) == pytest.approx(value)


def test_losses_select_by_the_lowest() -> None:
    scores: Any = {"a": {"dev_1": {"accuracy": 0.5, "loss": 0.25}, "dev_2": {"accuracy": 0.5, "loss": 0.75}}}
    scores["b"] = {"dev": {"pearson": 0.2, "loss": 1.5}}
    assert selection_score("a.loss", scores) == -0.5 and selection_score("loss", scores) == -1.0
    assert selection_score("mean", scores) == pytest.approx(0.35)


@pytest.mark.parametrize("batch_size", ["5", "null"])
def test_dev_losses_are_those_of_torch(batch_size: str, tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=8, more=["tagged", "odd", "marks", "found", "guessed"])
    run = parts(tmp_path, "evaluation.metric=loss", f"evaluation.batch_size={batch_size}")
    scores = dev_scores(run.decoder, run.dev_splits)
    run.model.eval()
    for name, split in ((name, run.splits[name, "dev"]) for name in scores):
        batch = collate(split, range(len(split)), task=name)
        assert batch.labels is not None
        with torch.no_grad():
            logits = run.model(batch)
        if name == "overlap":
            expected = nn.MSELoss()(logits[:, 0], batch.labels.float())
        else:
            expected = nn.CrossEntropyLoss()(logits, batch.labels)
        assert scores[name]["dev"]["loss"] == pytest.approx(expected.item(), rel=1e-5), name


def test_the_best_model_is_the_one_with_the_lowest_dev_loss(workspace: Path) -> None:
    options = {"evaluation.metric": "negated.loss", "optimizer.lr": 0.05, "tasks": ["negated"], "train.epochs": 6}
    summary = mt_dnn.train(workspace / "run.yml", options).summary
    records = [json.loads(line) for line in (workspace / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {each["step"]: each["scores"]["negated"]["dev"]["loss"] for each in records if "scores" in each}
    assert summary["selected_step"] == min(losses, key=lambda step: losses[step])
    assert summary["selection"]["score"] == -min(losses.values())


def test_selection_metric_is_checked_before_training() -> None:
    defs = {"a": task("a"), "c": task("c", metrics=("confusion_matrix",))}
    for metric in ("a.accuracy", "a.loss", "c.loss", "loss"):
        check_selection(metric, defs)
    span = {"data_format": "question_context", "no_answer": True, "task_type": "span"}
    defs["s"] = TaskDef(name="s", **{**TASK_TYPES["span"].defaults, **span})
    for metric, words in (
        ("d", "no trained task 'd'"),
        ("a.mcc", "no metric 'mcc'"),
        ("c", "single number"),
        ("d.loss", "no trained task 'd'"),
        ("loss", "the loss of 's' depends on its threshold of no answer; use s.answer_f1"),
        ("s.loss", "depends on its threshold"),
    ):
        with pytest.raises(UserError, match=words):
            check_selection(metric, defs)


def test_training_tasks_are_checked() -> None:
    defs = {"a": task("a"), "b": task("b", splits=("test",))}
    assert list(training_tasks(defs, ("a",), "f.yml")) == ["a"]
    for wanted, words in ((("x",), "no task 'x'"), (("b",), "no train split"), (("a", "a"), "twice")):
        with pytest.raises(UserError, match=words):
            training_tasks(defs, wanted, "f.yml")


def test_baseline_is_the_best_constant(workspace: Path) -> None:
    run = parts(workspace)
    split = run.splits["same", "dev"]
    assert split.labels is not None
    share = np.bincount(split.labels).max() / len(split)
    assert baseline(run.tasks.trained["same"], split)["accuracy"] == pytest.approx(share)
    assert baseline(run.tasks.trained["overlap"], run.splits["overlap", "dev"]) == {"pearson": 0, "spearman": 0}


def test_table_shows_scores_beside_baselines_and_matrices_below() -> None:
    result = {"task": "a", "split": "dev", "rows": 3, "scores": {"accuracy": 0.5, "confusion_matrix": [[1]]}}
    text = score_table([{**result, "baseline": {"accuracy": 0.25, "confusion_matrix": [[0]]}}])
    assert text.splitlines()[-1].split() == ["a", "(dev)", "3", "accuracy", "50.00", "25.00"]
    assert "matrix" not in text
    matrix = {"confusion_matrix": [[1, 2], [0, 4]]}
    text = score_text([{**result, "scores": matrix, "baseline": matrix, "labels": ["no", "yes"]}])
    assert [line.split() for line in text.splitlines()[-4:]] == [
        ["a", "(dev)", "predicted", "no", "predicted", "yes"],
        ["-" * len("a (dev)"), "-" * len("predicted no"), "-" * len("predicted yes")],
        ["is", "no", "1", "2"],
        ["is", "yes", "0", "4"],
    ]


def test_probabilities_are_named_by_label() -> None:
    decoded = Decoded(np.array([1, 0]), np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert list(prediction_records(task(), SPLIT, decoded)) == [
        {"uid": "u", "prediction": "b", "scores": {"a": 0.25, "b": 0.75}},
        {"uid": "v", "prediction": "a", "scores": {"a": 0.5, "b": 0.5}},
    ]
