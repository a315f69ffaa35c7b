"""One training step: weights of unequal batches, task factors, clipping, the gradient scaler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.none import NoAdversary, NoneOptions
from mt_dnn.adversarial.view import View
from mt_dnn.batches.collate import collate
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.training.step import Stepper
from tests.workspace import make_workspace

OPTIONS = [
    "optimizer.name=sgd",
    "optimizer.lookahead.enabled=false",
    "optimizer.weight_decay=0",
    "schedule.name=constant",
    "schedule.warmup_fraction=0",
    "encoder.dropout=0",
    "encoder.attention_dropout=0",
    "heads.dropout=0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("step")
    make_workspace(folder)
    return folder


def weights(run: Run) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


def after_step(folder: Path, parts: list[list[int]], *options: str, tasks: tuple[str, ...] = ("same",)) -> Any:
    """(run, weights before, weights after, loss, norm) of one update on rows of the tasks, given in turn."""
    run = Run(load_config(folder / "run.yml", [*OPTIONS, *options]))
    before = weights(run)
    names = [tasks[i % len(tasks)] for i in range(len(parts))]
    update = [collate(run.train_splits[name], rows, task=name) for name, rows in zip(names, parts, strict=True)]
    loss, norm, _ = run.stepper(update)
    return run, before, weights(run), loss, norm


def largest_change(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def with_tasks(stepper: Stepper, **changes: dict[str, Any]) -> Stepper:
    """The stepper with fields of some tasks changed."""
    tasks: dict[str, TaskDef] = dict(stepper.tasks)
    for name, fields in changes.items():
        tasks[name] = tasks[name].model_copy(update=fields)
    object.__setattr__(stepper, "tasks", tasks)
    return stepper


def test_unequal_batches_of_an_update_equal_one_large_batch(folder: Path) -> None:
    _, before, whole, loss, norm = after_step(folder, [[0, 1, 2, 3, 4, 5, 6, 7]], "optimizer.lr=1")
    _, _, parts, loss_parts, norm_parts = after_step(folder, [[0, 1, 2], [3, 4, 5, 6, 7]], "optimizer.lr=1")
    assert largest_change(before, whole) > 1e-4
    assert largest_change(whole, parts) < 1e-6
    assert loss_parts.item() == pytest.approx(loss.item(), abs=1e-6)
    assert norm_parts.item() == pytest.approx(norm.item(), abs=1e-5)


def test_an_update_mixes_tasks_and_touches_only_their_heads(folder: Path) -> None:
    _, before, after, _, _ = after_step(folder, [[0, 1], [0, 1, 2]], tasks=("same", "overlap"))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert {"heads.same.linear.weight", "heads.overlap.linear.weight"} <= moved
    assert not any(name.startswith("heads.negated") for name in moved)


def test_loss_weight_and_lr_scale(folder: Path) -> None:
    options = ("train.clip_norm=null",)
    _, before, plain, loss, _ = after_step(folder, [[0, 1, 2]], *options)
    step = {name: plain[name] - before[name] for name in plain}
    for fields, factor, loss_factor in (({"loss_weight": 3.0}, 3, 3), ({"lr_scale": 0.5}, 0.5, 1)):
        run = Run(load_config(folder / "run.yml", [*OPTIONS, *options]))
        rates = [group["lr"] for group in run.stepper.optimizer.param_groups]
        batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
        scaled, *_ = with_tasks(run.stepper, same=fields)([batch])
        assert scaled.item() == pytest.approx(loss_factor * loss.item())
        expected = {name: before[name] + factor * step[name] for name in before}
        assert largest_change(expected, weights(run)) < 1e-6
        assert [group["lr"] for group in run.stepper.optimizer.param_groups] == rates


def test_clipping_bounds_the_whole_step(folder: Path) -> None:
    _, before, after, _, norm = after_step(folder, [[0, 1, 2]], "train.clip_norm=0.001", "optimizer.lr=1")
    assert norm.item() > 0.001
    length = math.sqrt(sum((after[name] - before[name]).square().sum().item() for name in before))
    assert length == pytest.approx(0.001, rel=0.01)


def scaled_run(folder: Path) -> Run:
    run = Run(load_config(folder / "run.yml", [*OPTIONS, "optimizer.lookahead.enabled=true"]))
    object.__setattr__(run.stepper, "scaler", torch.amp.GradScaler("cpu", init_scale=1024.0))
    return run


def test_gradient_scaling_changes_nothing_but_rounding(folder: Path) -> None:
    _, _, plain, loss, norm = after_step(folder, [[0, 1, 2]], "optimizer.lookahead.enabled=true")
    run = scaled_run(folder)
    scaled_loss, scaled_norm, _ = run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert scaled_loss.item() == pytest.approx(loss.item()) and scaled_norm.item() == pytest.approx(
        norm.item(), rel=1e-4
    )
    assert largest_change(plain, weights(run)) < 1e-6


def test_an_overflow_skips_the_step_halves_the_scale_and_leaves_lookahead_alone(folder: Path) -> None:
    run = scaled_run(folder)
    before, optimizer = weights(run), run.stepper.optimizer
    head: Any = run.model.heads["same"]
    handle = head.linear.weight.register_hook(lambda gradient: gradient * math.inf)
    run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    handle.remove()
    assert largest_change(before, weights(run)) == 0 and run.stepper.schedule.last_epoch == 0
    assert run.stepper.scaler.get_scale() == 512 and optimizer.counter == 0  # type: ignore[attr-defined]
    run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert largest_change(before, weights(run)) > 0 and run.stepper.schedule.last_epoch == 1 and optimizer.counter == 1  # type: ignore[attr-defined]


class Watching(NoAdversary):
    """Plain training that keeps the views it is shown."""

    def __init__(self, task: TaskDef) -> None:
        super().__init__(NoneOptions(), task)
        self.views: list[View] = []

    def __call__(self, network: View) -> Iterator[Tensor]:
        self.views.append(network)
        yield from super().__call__(network)


def test_inner_losses_have_the_scale_of_the_gradient_scaler(folder: Path) -> None:
    run = scaled_run(folder)
    watching = Watching(run.tasks.trained["same"])
    object.__setattr__(run.stepper, "adversaries", {**run.stepper.adversaries, "same": watching})
    run.stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert [view.scale for view in watching.views] == [run.stepper.scaler.get_scale()] == [1024]
