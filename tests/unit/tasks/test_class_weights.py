"""Class weights and label smoothing against torch's CrossEntropyLoss, and the trainings that they change."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from torch import Tensor, nn

import mt_dnn
from data_utils.errors import UserError
from data_utils.task_def import TaskDef, dump_task_defs, load_task_defs
from data_utils.task_types import TASK_TYPES
from mt_dnn.adversarial.view import View
from mt_dnn.batches.batch import Batch
from mt_dnn.tasks.units import NoUnits
from mt_dnn.telemetry import Telemetry
from tests.workspace import make_workspace

LABELS = ("a", "b", "c")


def task(kind: str = "classification", **fields: Any) -> TaskDef:
    formats = TASK_TYPES[kind].formats
    values = {**TASK_TYPES[kind].defaults, "metrics": ("accuracy",), "labels": LABELS, **fields}
    return TaskDef(name="mine", task_type=kind, data_format=formats[0], **values)


class OneEach:
    """A batch of single decisions."""

    task, soft = "mine", None

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def example_means(self, values: Tensor) -> Tensor:
        return values


def loss(definition: TaskDef, logits: Tensor, gold: Tensor, **options: Any) -> Tensor:
    """What an adversary sees as the task's loss."""
    model: Any = SimpleNamespace(units=lambda task: NoUnits())
    return View(model, cast(Batch, OneEach(gold)), definition, Telemetry()).loss(logits, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [{}, {"b": 3.0}, {"a": 0.0, "b": 0.5, "c": 2.5}])
@pytest.mark.parametrize("kind", ["classification", "sequence_labelling"])
def test_values_and_gradients_are_those_of_torch(kind: str, weights: dict[str, float], smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(9, 3, generator=generator).requires_grad_()
    labels = torch.randint(0, 3, (9,), generator=generator)
    weight = torch.tensor([weights.get(label, 1.0) for label in LABELS])
    reference = nn.CrossEntropyLoss(weight, label_smoothing=smoothing, reduction="none")(logits, labels)
    definition = task(kind, class_weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(definition, logits, labels, reduction="none"), reference)
    mean = loss(definition, logits, labels)
    torch.testing.assert_close(mean, reference.sum() / 9)
    (found,) = torch.autograd.grad(mean, logits)
    (expected,) = torch.autograd.grad(reference.sum() / 9, logits)
    torch.testing.assert_close(found, expected)


def test_wrong_targets_of_an_adversary_have_the_plain_loss() -> None:
    logits, gold, wrong = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 1])
    definition = task(class_weights={"b": 0.0}, label_smoothing=0.2)
    found = loss(definition, logits, gold, labels=wrong, reduction="none")
    torch.testing.assert_close(found, nn.CrossEntropyLoss(reduction="none")(logits, wrong))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"class_weights": {"d": 1}}, "class_weights: 'd' is not one of its labels"),
        ({"class_weights": dict.fromkeys(LABELS, 0)}, "class_weights: all are 0, so nothing would be learnt"),
        ({"class_weights": {"a": math.inf}}, "class_weights.*finite number"),
        ({"class_weights": {"a": -1}}, "greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"label_smoothing": 0.1, "splits": ["dev"]}, "no train split reads them"),
        ({"task_type": "ordinal", "label_smoothing": 0.1}, "only a classification or sequence_labelling task has it"),
        ({"task_type": "regression", "labels": None, "class_weights": {"a": 1}}, "class_weights"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    values = {"task_type": "classification", "data_format": "single", "labels": [*LABELS], **fields}
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump({"mine": values}))
    with pytest.raises(UserError, match=words):
        load_task_defs(tmp_path / "tasks.yml")


def test_labels_that_are_numbers_and_those_that_yaml_rewrites(tmp_path: Path) -> None:
    head = "mine: {task_type: classification, data_format: single, "
    (tmp_path / "tasks.yml").write_text(head + "n_class: 2, class_weights: {1: 2.5}}")
    found = load_task_defs(tmp_path / "tasks.yml")
    assert found["mine"].weights == (1.0, 2.5)
    (tmp_path / "tasks.yml").write_text(head + "n_class: 2, class_weights: {0: .5, 1: 1.50}}")
    assert load_task_defs(tmp_path / "tasks.yml")["mine"].weights == (0.5, 1.5)
    dump_task_defs(found, tmp_path / "copy.yml")
    assert load_task_defs(tmp_path / "copy.yml") == found
    (tmp_path / "tasks.yml").write_text(head + 'labels: ["no", "yes"], class_weights: {yes: 2}}')
    with pytest.raises(UserError, match='class_weights: YAML reads yes as a truth value; quote it: "yes"'):
        load_task_defs(tmp_path / "tasks.yml")


def test_a_class_with_weight_0_is_not_learnt(tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=32)
    tasks = yaml.safe_load((tmp_path / "tasks.yml").read_text())
    tasks["negated"]["class_weights"] = {"no": 0}
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump(tasks))
    mt_dnn.train(tmp_path / "run.yml", {"tasks": ["negated"], "optimizer.lr": 0.01})
    answers = mt_dnn.load(tmp_path / "run").predict("negated", ["the cat sees", "a dog sees not"])
    assert [answer["prediction"] for answer in answers] == ["yes", "yes"]
