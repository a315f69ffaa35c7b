"""Rows, batches, losses, targets and metrics of tasks with choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_utils.benchmarks.sources import RowSource, each, question_row
from data_utils.errors import UserError
from data_utils.rows import read_rows
from data_utils.task_def import TaskDef, load_task_defs
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.tally import Choices
from mt_dnn.batches.collate import collate
from mt_dnn.tasks.losses import DIVERGENCES, MISSING, pairwise
from tests.answers import computed
from tests.unit.batches.test_batch import split_of

TASK = TaskDef(name="q", task_type="multiple_choice", data_format="choices", **TASK_TYPES["multiple_choice"].defaults)
HEADER = "uid\tlabel\tpremise\tchoice1\tchoice2\tchoice3\n"


def read(folder: Path, text: str) -> Any:
    path = folder / "q_dev.tsv"
    path.write_text(HEADER + text)
    return read_rows(path, TASK)


def test_rows_have_as_many_choices_as_are_filled(tmp_path: Path) -> None:
    rows = read(tmp_path, "a\t2\twhy\tone\ttwo\t\nb\t3\twho\tx\ty\tz\n")
    assert rows.choices == [["one", "two"], ["x", "y", "z"]] and rows.label == [1, 2] and rows.extra == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\t3\twhy\tone\ttwo\t", "q_dev.tsv:2: label '3' is not the number of a choice, 1 to 2"),
        ("a\t0\twhy\tone\ttwo\t", "label '0' is not the number of a choice"),
        ("a\tB\twhy\tone\ttwo\t", "label 'B' is not the number of a choice"),
        ("a\t1\twhy\tone\t\tthree", "q_dev.tsv:2: choice2 is empty; a row has at least two choices"),
        ("a\t1\twhy\tone\t\t", "q_dev.tsv:2: 1 choices; a row has at least two"),
    ],
)
def test_wrong_rows_are_one_line(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, row + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{task_type: multiple_choice, data_format: pair}", "a multiple_choice task takes choices"),
        (
            "{task_type: classification, data_format: choices, labels: [a, b]}",
            "takes single or pair",
        ),
        ("{task_type: multiple_choice, data_format: choices, labels: [a, b]}", "a multiple_choice task has none"),
        ("{task_type: multiple_choice, data_format: choices, loss: mse}", "mse does not fit a multiple_choice task"),
        ("{task_type: multiple_choice, data_format: choices, metrics: [f1]}", "'f1' does not fit .* accuracy, mrr"),
    ],
)
def test_wrong_definitions_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.yml").write_text(f"q: {text}\n")
    with pytest.raises(UserError, match=message):
        load_task_defs(tmp_path / "tasks.yml")


def test_old_names_load(tmp_path: Path) -> None:
    text = "q: {task_type: Ranking, data_format: PremiseAndMultiHypothesis, loss: RankCeCriterion, metric_meta: [ACC]}"
    (tmp_path / "tasks.yml").write_text(text)
    task = load_task_defs(tmp_path / "tasks.yml")["q"]
    assert (task.task_type, task.data_format, task.loss) == ("multiple_choice", "choices", "cross_entropy")


def test_sequences_of_an_example_stand_together() -> None:
    split = split_of([2, 3, 1, 4, 2], labels=np.array([1, 0]), groups=np.array([0, 2, 5]))
    batch = collate(split, [1, 0], task="q")
    assert (batch.size, batch.sequences, batch.most_choices, batch.longest) == (2, 5, 3, 4)
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4]
    assert batch.lengths.tolist() == [1, 4, 2, 2, 3] and batch.example_lengths.tolist() == [7, 5]
    assert batch.position_ids.tolist() == [0, 0, 1, 2, 3, 0, 1, 0, 1, 0, 1, 2]
    scores = batch.by_example(torch.arange(5.0), -1.0)
    assert scores.tolist() == [[0, 1, 2], [3, 4, -1]]
    twice = batch.repeated(2)
    assert twice.size == 4 and twice.groups is not None and twice.groups.tolist() == [0, 3, 5, 8, 10]
    assert twice.offsets.tolist() == [0, 1, 5, 7, 9, 12, 13, 17, 19, 21, 24]


def test_pairwise_loss_is_the_mean_over_wrong_choices() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.5], [0.2, -0.4, MISSING]], requires_grad=True)
    values = pairwise(logits, torch.tensor([1, 0]), reduction="none")
    soft = lambda x: np.log1p(np.exp(x))  # noqa: E731
    np.testing.assert_allclose(values.detach(), [(soft(-2) + soft(-2.5)) / 2, soft(-0.6)], rtol=1e-6)
    values.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad[1, 2] == 0


@pytest.mark.parametrize("name", DIVERGENCES)
def test_choices_that_are_not_there_do_not_count(name: str) -> None:
    clean, perturbed = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.1, 0.4]], requires_grad=True)
    there = DIVERGENCES[name](clean, perturbed)
    there.backward()
    missing = torch.full((1, 2), MISSING)
    wide = torch.cat([perturbed.detach(), missing], 1).requires_grad_()
    value = DIVERGENCES[name](torch.cat([clean, missing], 1), wide)
    value.backward()
    torch.testing.assert_close(value, there)
    assert wide.grad is not None and perturbed.grad is not None
    torch.testing.assert_close(wide.grad[:, :2], perturbed.grad)
    assert not wide.grad[:, 2:].any()


def test_targets_are_wrong_choices_equally_likely() -> None:
    labels, choices = torch.tensor([0, 1, 2, 1]), torch.tensor([3, 3, 3, 2])
    chances = torch.rand(6000, generator=torch.Generator().manual_seed(1))
    logits = torch.zeros(4, 3)
    logits[3, 2] = MISSING
    drawn = torch.stack([Choices().sample(labels, c.expand(4), c.expand(4), logits) for c in chances])
    assert not (drawn == labels).any() and (drawn < choices).all() and (drawn >= 0).all()
    for column, wrong in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
        shares = [(drawn[:, column] == target).float().mean().item() for target in wrong]
        assert shares == pytest.approx([0.5, 0.5], abs=0.03)
    last = Choices().sample(labels, torch.full((4,), 1 - 2**-24), torch.zeros(4), logits)
    assert (last < choices).all()


def test_mean_reciprocal_rank() -> None:
    scores = [[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.4, 0.0]]
    found = computed(["mrr", "accuracy"], predictions=[1, 2, 0], labels=[2, 0, 0], scores=scores, n_class=1)
    assert found == {"mrr": pytest.approx((1 / 2 + 1 / 2.5 + 1) / 3), "accuracy": pytest.approx(1 / 3)}


def test_questions_of_authors_and_hub_become_the_same_rows(tmp_path: Path) -> None:
    names, texts = ["A", "B", "C"], ["x", "y", "z"]
    choices = [{"label": name, "text": text} for name, text in zip(names, texts, strict=True)]
    own: dict[str, Any] = {"id": "7", "question": {"stem": "why", "choices": choices}, "answerKey": "C"}
    row = {"premise": "why", "choice1": "x", "choice2": "y", "choice3": "z"}
    hub = {"id": "7", "question": "why", "choices": {"label": names, "text": texts}, "answerKey": "C"}
    assert question_row(0, own) == question_row(0, hub) == {"uid": "7", "label": "3", **row}
    assert question_row(4, {"question": own["question"]}) == {"uid": "4", "label": "", **row}
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(own) + "\n" + json.dumps({"question": 3}) + "\n")
    source = RowSource({"train": ["q.jsonl"]}, each(question_row))
    with pytest.raises(UserError, match=r"q.jsonl:2: not a row of q \(TypeError"):
        source.write(path, task="q", split="train", output=tmp_path)
    own["question"]["choices"] = choices[2:]
    path.write_text(json.dumps(own) + "\n")
    with pytest.raises(UserError, match=r"q.jsonl:1: not a row of q \(ValueError: fewer than two choices"):
        source.write(path, task="q", split="train", output=tmp_path)
    own["question"]["choices"] = choices
    path.write_text(json.dumps(own) + "\n")
    assert source.write(path, task="q", split="train", output=tmp_path).rows == 1
    assert read_rows(tmp_path / "q_train.tsv", TASK).choices == [["x", "y", "z"]]
