"""Numbers of any size: what a head is trained on, and what the user reads."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from scipy.stats import pearsonr
from torch import nn

import mt_dnn
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.runs.checkpoints import find_checkpoint, last_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.tasks.regression import Values
from mt_dnn.tasks.units import NoUnits, Units, new_units
from tests.parts import parts
from tests.workspace import make_workspace

SHORT = ["tasks=[overlap]", "train.max_steps=10", "log.every_steps=5", "log.dropout_floor_every_steps=5"]
SPAN = 16  # a power of two: rounding is the same in both units
MODES: dict[str, list[str]] = {
    "none": [],
    "distilled": ["distillation.weight=0.5"],
    "vat": ["adversary.mode=vat", "adversary.bregman.mu=1", "adversary.radius=0.1", "adversary.step_size=1"],
    "tat": ["adversary.mode=tat", "adversary.radius=0.1", "adversary.step_size=1", "train.max_steps=14"],
    "freelb": ["adversary.mode=freelb"],
    "freeat": ["adversary.mode=freeat"],
    "rapt": ["adversary.mode=rapt", "adversary.max_layer=1"],
    "rdrop": ["adversary.mode=rdrop"],
    "uncertainty": ["tasks=[overlap, same]", "train.loss_balance=uncertainty"],
}


def score(value_range: tuple[float, float] | None = None) -> TaskDef:
    fields: dict[str, Any] = {"name": "s", "task_type": "regression", "data_format": "pair", "value_range": value_range}
    return TaskDef.model_validate({**TASK_TYPES["regression"].defaults, **fields})


def fitted(labels: list[float], value_range: tuple[float, float] | None = None) -> Units:
    units = Units()
    units.fit(score(value_range), np.array(labels))
    return units


def test_new_units_and_the_range_of_stsb_change_no_bit() -> None:
    values = torch.randn(100)
    for units in (Units(), fitted([1.0, 2.0], (0, 5)), NoUnits()):
        assert torch.equal(units.to_head(values), values) and torch.equal(units.to_user(values).float(), values)
        assert units.squared == 1
    classes = torch.tensor([2, 0])
    assert NoUnits().to_head(classes) is classes


@pytest.mark.parametrize("value_range", [(0.0, 100.0), (-1.0, 1.0), (1900.0, 2000.0)])
def test_a_range_is_trained_as_zero_to_five(value_range: tuple[float, float]) -> None:
    units = fitted([0.0], value_range)
    ends = torch.tensor(value_range, dtype=torch.float64)
    torch.testing.assert_close(units.to_head(ends), torch.tensor([0.0, 5.0]))
    torch.testing.assert_close(units.to_user(torch.tensor([0.0, 5.0])), ends)
    low, high = value_range
    assert float(units.squared) == pytest.approx(((high - low) / 5) ** 2)


def test_without_a_range_labels_get_mean_zero_and_deviation_one() -> None:
    labels = [1990.0, 2000.0, 2020.0, 1970.0]
    z = fitted(labels).to_head(torch.tensor(labels))
    assert float(z.mean()) == pytest.approx(0, abs=1e-6) and float(z.std(correction=0)) == pytest.approx(1)
    same = fitted([7.0, 7.0])
    assert float(same.offset) == 7 and float(same.spread) == 1


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_numbers_that_lie_close_together_far_from_zero_stay_different(offset: float) -> None:
    """In float32, all of them became one or a few numbers."""
    z = 0.01 * torch.randn(500, generator=torch.Generator().manual_seed(0))
    units = fitted([offset - 1, offset + 1])
    numbers = units.to_user(z)
    assert numbers.dtype == torch.float64 and torch.equal(numbers.argsort(), z.argsort())
    assert len(numbers.unique()) == len(z.unique())
    back = units.to_head(numbers)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["none", "distilled"])
def test_an_offset_of_all_labels_changes_no_score(soft_workspace: Path, mode: str) -> None:
    rewrite(soft_workspace, 1, None)
    options = [*MODES[mode], "encoder.dropout=0", "evaluation.metric=overlap.loss"]
    summary, log, predictions = run(soft_workspace, "near", options)
    rewrite(soft_workspace, 1, None, offset=2.0**24)
    far, far_log, far_predictions = run(soft_workspace, "far", options)
    assert np.array(far_predictions) - 2**24 == pytest.approx(predictions, abs=1e-5) and len(set(predictions)) > 4
    assert far["results"][0]["scores"] == pytest.approx(summary["results"][0]["scores"], abs=1e-3)
    losses = [[record["loss"] for record in each if record["event"] == "train"] for each in (log, far_log)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[0]


def rewrite(workspace: Path, factor: float, value_range: list[float] | None, *, offset: float = 0.0) -> None:
    """Multiplies all labels and soft labels of the task overlap, adds ``offset``, and sets the range."""
    for path in (workspace / "data").glob("overlap_*.tsv"):
        with path.open() as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        lines = ["\t".join(rows[0])]
        for row in rows:
            for column in {"label", "soft_label"} & row.keys():
                row[column] = repr(offset + factor * float(np.float32(row[column])))
            lines.append("\t".join(row.values()))
        path.write_text("\n".join(lines) + "\n")
    defs = yaml.safe_load((workspace / "tasks.yml").read_text())
    defs["overlap"]["value_range"] = value_range
    (workspace / "tasks.yml").write_text(yaml.safe_dump(defs))


def run(workspace: Path, output: str, options: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]], list[float]]:
    """Summary, log and predictions of a run."""
    folder = workspace / output
    summary = Run(load_config(workspace / "run.yml", [*SHORT, *options, f"output={folder}"]))()
    assert isinstance(summary, dict)
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = (folder / "predictions" / "overlap_dev.jsonl").read_text().splitlines()
    return summary, log, [json.loads(line)["prediction"] for line in lines]


@pytest.mark.parametrize("mode", MODES)
def test_labels_of_another_size_give_the_same_run(soft_workspace: Path, mode: str) -> None:
    """Every loss is in the user's units, and nothing else of the run differs by a bit."""
    rewrite(soft_workspace, 1, [0, 5])
    summary, log, predictions = run(soft_workspace, "small", MODES[mode])
    rewrite(soft_workspace, SPAN, [0, 5 * SPAN])
    large_summary, large_log, large_predictions = run(soft_workspace, "large", MODES[mode])
    assert summary["results"] == large_summary["results"] and large_summary["results"][0]["scores"]["pearson"] != 0
    assert large_predictions == [SPAN * prediction for prediction in predictions]
    if mode == "uncertainty":  # the loss of two tasks in one number
        losses = [
            [record.get("loss_factors") for record in each if record["event"] == "train"] for each in (log, large_log)
        ]
        assert losses[0] == losses[1] and losses[0][-1]
        return
    for small, large in zip(log, large_log, strict=True):
        if small["event"] == "train":
            assert large["loss"] == pytest.approx(SPAN**2 * small["loss"], rel=1e-12)
            assert large["grad_norm"] == small["grad_norm"] and small["grad_norm"] > 0
            figures, large_figures = (dict(record.get("adversary", {})) for record in (small, large))
            in_units = {"regularizer", "measured_regularizer", "bregman", "dropout_floor"}
            in_units |= {"first_pass_loss", "last_pass_loss"}
            for name in in_units & figures.keys():
                figures[name] *= SPAN**2
            assert large_figures == pytest.approx(figures, rel=1e-12)
    tallies = [
        [json.loads(path.read_text()) for path in sorted((soft_workspace / name / "adversary").glob("*.json"))]
        for name in ("small", "large")
    ]
    assert [tally["counts"] for tally in tallies[0]] == [tally["counts"] for tally in tallies[1]]
    assert bool(tallies[0]) == (mode == "tat")


def test_large_labels_without_a_range_are_learnt(soft_workspace: Path) -> None:
    """Labels around 2000 were a constant prediction: the head alone had to learn 2000 with a small learning rate."""
    rewrite(soft_workspace, 400, None)
    options = ["train.max_steps=null", "train.epochs=20", "encoder.dropout=0", "optimizer.lr=3e-3"]
    summary, _, predictions = run(soft_workspace, "large", options)
    assert summary["results"][0]["scores"]["spearman"] > 0.5
    assert np.std(predictions) > 100 and 500 < np.mean(predictions) < 1500


def test_units_are_saved_with_the_head_and_an_old_checkpoint_has_none(soft_workspace: Path) -> None:
    rewrite(soft_workspace, SPAN, None)
    _, _, predictions = run(soft_workspace, "large", ["evaluation.metric=null"])
    file = find_checkpoint(soft_workspace / "large") / "heads.safetensors"
    weights = load_file(file)
    labels = parts(soft_workspace, "tasks=[overlap]").train_splits["overlap"].labels
    assert labels is not None
    offset, spread = (float(weights[f"heads.overlap.units.{name}"]) for name in ("offset", "spread"))
    assert offset == pytest.approx(labels.mean()) and spread == pytest.approx(labels.std())

    def predicted() -> np.ndarray:
        with (soft_workspace / "data" / "overlap_dev.tsv").open() as stream:
            rows = [(row["premise"], row["hypothesis"]) for row in csv.DictReader(stream, delimiter="\t")]
        model = mt_dnn.load(soft_workspace / "large")
        found = np.array([record["prediction"] for record in model.predict("overlap", rows)])
        assert np.array([logits[0, 0] for logits in model.logits("overlap", rows)]) == pytest.approx(found)
        return found

    assert predicted() == pytest.approx(predictions)
    save_file({name: value for name, value in weights.items() if ".units." not in name}, file)
    assert predicted() == pytest.approx((np.array(predictions) - offset) / spread, abs=1e-4)


def test_a_resumed_run_keeps_the_units_of_its_checkpoint(soft_workspace: Path) -> None:
    run(soft_workspace, "large", [])
    checkpoint = last_checkpoint(soft_workspace / "large")
    assert checkpoint is not None
    file = checkpoint / "heads.safetensors"
    weights = load_file(file)
    save_file({**weights, "heads.overlap.units.offset": torch.tensor(3.5)}, file)
    units = parts(soft_workspace, *SHORT, f"output={soft_workspace / 'large'}").model.units("overlap")
    assert isinstance(units, Units) and float(units.offset) == 3.5


def test_old_checkpoints_get_units_that_change_nothing_by_name() -> None:
    model = nn.ModuleDict({"a": nn.ModuleDict({"units": fitted([1.0, 3.0])}), "b": nn.Linear(2, 1)})
    assert {name: float(value) for name, value in new_units(model).items()} == {
        "a.units.offset": 0,
        "a.units.spread": 1,
    }


def test_a_head_that_two_tasks_train_has_units_from_the_rows_of_both(soft_workspace: Path) -> None:
    rewrite(soft_workspace, 10, None)
    defs = yaml.safe_load((soft_workspace / "tasks.yml").read_text())
    defs["twin"] = {**defs["overlap"], "head": "overlap"}
    (soft_workspace / "tasks.yml").write_text(yaml.safe_dump(defs))
    for split in ("train", "dev"):
        text = (soft_workspace / "data" / f"overlap_{split}.tsv").read_text().splitlines()
        (soft_workspace / "data" / f"twin_{split}.tsv").write_text("\n".join(text[:9]) + "\n")
    run_parts = parts(soft_workspace, "tasks=[overlap, twin]")
    labels = [run_parts.train_splits[name].labels for name in ("overlap", "twin")]
    both = np.concatenate([values for values in labels if values is not None])
    units = run_parts.model.units("twin")
    assert isinstance(units, Units) and units is run_parts.model.units("overlap") and len(both) == 56
    assert float(units.offset) == pytest.approx(both.mean()) and float(units.spread) == pytest.approx(both.std())


@pytest.fixture
def soft_workspace(tmp_path: Path) -> Path:
    make_workspace(tmp_path, soft=True)
    return tmp_path


def test_a_trained_head_keeps_its_units_and_soft_labels_stand_in_for_labels(soft_workspace: Path) -> None:
    run = parts(soft_workspace, "tasks=[overlap]")
    trained = {"overlap": run.tasks.trained["overlap"].model_copy(update={"value_range": None})}
    splits = run.train_splits
    soft = splits["overlap"].soft
    assert soft is not None
    run.model.fit_units(trained, {"overlap": replace(splits["overlap"], labels=None)})
    assert float(run.model.units("overlap").to_user(torch.zeros(()))) == pytest.approx(soft.mean(), abs=1e-5)
    run.model.load_head("overlap", {**run.model.heads["overlap"].state_dict(), "units.offset": torch.tensor(3.5)})
    run.model.fit_units(trained, splits)
    assert float(run.model.units("overlap").to_user(torch.zeros(()))) == 3.5


def test_predictions_stay_in_the_range_and_scores_read_the_output() -> None:
    """What is outside goes to the nearest end. The order of such rows still counts in correlations."""
    outputs, labels = [np.array([[value]]) for value in (-1.5, 0.25, 3.0, 6.0, 7.5)], np.array([0.0, 1, 2, 4, 5])
    task = score((0, 5))
    split: Any = SimpleNamespace(labels=labels, questions=None)
    decoded = Values()(task, task, split, outputs)
    records = list(Values().records(task, split, decoded))
    assert records == [
        {"prediction": 0.0, "output": -1.5},
        {"prediction": 0.25},
        {"prediction": 3.0},
        {"prediction": 5.0, "output": 6.0},
        {"prediction": 5.0, "output": 7.5},
    ]
    expected = pearsonr(np.concatenate(outputs)[:, 0], labels).statistic
    gold = [{**record, "gold": label} for record, label in zip(records, labels, strict=True)]
    for answers in (Values().answers(task, split, decoded), Values().read(task, gold)):
        np.testing.assert_array_equal(answers.predictions, [-1.5, 0.25, 3, 6, 7.5])
        assert np.corrcoef(answers.predictions, answers.labels)[0, 1] == pytest.approx(expected, abs=1e-12)
    unlimited = Values()(score(), score(), split, outputs)
    assert [record["prediction"] for record in Values().records(score(), split, unlimited)] == [-1.5, 0.25, 3, 6, 7.5]
