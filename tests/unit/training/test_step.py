"""One training step: weights of unequal batches, task factors, clipping, the gradient scaler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from data_utils.task_def import TaskDef
from mt_dnn.adversarial.none import NoAdversary, NoneOptions
from mt_dnn.adversarial.view import View
from mt_dnn.batches.collate import collate
from mt_dnn.training.parallel import Parallel
from mt_dnn.training.precision import LossScaler, autocast
from mt_dnn.training.step import Stepper, UpdatePart, rounds_of
from tests.parts import Parts, parts
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


def weights(run: Parts) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.model.named_parameters()}


def after_step(
    folder: Path, rows_of_batches: list[list[int]], *options: str, tasks: tuple[str, ...] = ("same",)
) -> Any:
    """(weights before, weights after, loss, norm) of one update on rows of the tasks, given in turn."""
    run = parts(folder, *OPTIONS, *options)
    before = weights(run)
    names = [tasks[i % len(tasks)] for i in range(len(rows_of_batches))]
    update = [
        collate(run.train_splits[name], rows, task=name) for name, rows in zip(names, rows_of_batches, strict=True)
    ]
    loss, norm, _ = run.stepper(update)
    return before, weights(run), loss, norm


def largest_change(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def with_tasks(stepper: Stepper, **changes: dict[str, Any]) -> Stepper:
    """The stepper with fields of some tasks changed."""
    tasks: dict[str, TaskDef] = dict(stepper.tasks)
    for name, fields in changes.items():
        tasks[name] = tasks[name].model_copy(update=fields)
    return replace(stepper, tasks=tasks)


def test_unequal_batches_of_an_update_equal_one_large_batch(folder: Path) -> None:
    before, whole, loss, norm = after_step(folder, [[0, 1, 2, 3, 4, 5, 6, 7]], "optimizer.lr=1")
    _, cut, loss_parts, norm_parts = after_step(folder, [[0, 1, 2], [3, 4, 5, 6, 7]], "optimizer.lr=1")
    assert largest_change(before, whole) > 1e-4
    assert largest_change(whole, cut) < 1e-6
    assert loss_parts.item() == pytest.approx(loss.item(), abs=1e-6)
    assert norm_parts.item() == pytest.approx(norm.item(), abs=1e-5)


def test_an_update_mixes_tasks_and_touches_only_their_heads(folder: Path) -> None:
    before, after, _, _ = after_step(folder, [[0, 1], [0, 1, 2]], tasks=("same", "overlap"))
    moved = {name for name in before if not before[name].equal(after[name])}
    assert {"heads.same.linear.weight", "heads.overlap.linear.weight"} <= moved
    assert not any(name.startswith("heads.negated") for name in moved)


def test_loss_weight_and_lr_scale(folder: Path) -> None:
    options = ("train.clip_norm=null",)
    before, plain, loss, _ = after_step(folder, [[0, 1, 2]], *options)
    step = {name: plain[name] - before[name] for name in plain}
    for fields, factor, loss_factor in (({"loss_weight": 3.0}, 3, 3), ({"lr_scale": 0.5}, 0.5, 1)):
        run = parts(folder, *OPTIONS, *options)
        rates = [group["lr"] for group in run.stepper.optimizer.param_groups]
        batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
        scaled, *_ = with_tasks(run.stepper, same=fields)([batch])
        assert scaled.item() == pytest.approx(loss_factor * loss.item())
        expected = {name: before[name] + factor * step[name] for name in before}
        assert largest_change(expected, weights(run)) < 1e-6
        assert [group["lr"] for group in run.stepper.optimizer.param_groups] == rates


def test_clipping_bounds_the_whole_step(folder: Path) -> None:
    before, after, _, norm = after_step(folder, [[0, 1, 2]], "train.clip_norm=0.001", "optimizer.lr=1")
    assert norm.item() > 0.001
    length = math.sqrt(sum((after[name] - before[name]).square().sum().item() for name in before))
    assert length == pytest.approx(0.001, rel=0.01)


def scaled(stepper: Stepper) -> Stepper:
    """The stepper with losses scaled up, as in fp16 on a GPU."""
    return replace(stepper, scaler=LossScaler("cpu", enabled=True))


def test_gradient_scaling_changes_nothing_but_rounding(folder: Path) -> None:
    _, plain, loss, norm = after_step(folder, [[0, 1, 2]], "optimizer.lookahead.enabled=true")
    run = parts(folder, *OPTIONS, "optimizer.lookahead.enabled=true")
    scaled_loss, scaled_norm, _ = scaled(run.stepper)([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert scaled_loss.item() == pytest.approx(loss.item()) and scaled_norm.item() == pytest.approx(
        norm.item(), rel=1e-4
    )
    assert largest_change(plain, weights(run)) < 1e-6


def test_an_overflow_skips_the_step_halves_the_scale_and_leaves_lookahead_alone(folder: Path) -> None:
    run = parts(folder, *OPTIONS, "optimizer.lookahead.enabled=true")
    stepper, before = scaled(run.stepper), weights(run)
    head: Any = run.model.heads["same"]
    optimizer: Any = stepper.optimizer
    handle = head.linear.weight.register_hook(lambda gradient: gradient * math.inf)
    stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    handle.remove()
    assert largest_change(before, weights(run)) == 0 and stepper.schedule.last_epoch == 0
    assert stepper.scaler.get_scale() == 2**15 and optimizer.counter == 0
    stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert largest_change(before, weights(run)) > 0 and stepper.schedule.last_epoch == 1 and optimizer.counter == 1


class Watching(NoAdversary):
    """Plain training that keeps the views it is shown."""

    def __init__(self, task: TaskDef) -> None:
        super().__init__(NoneOptions(), task)
        self.views: list[View] = []

    def __call__(self, network: View) -> Iterator[Tensor]:
        self.views.append(network)
        yield from super().__call__(network)


def test_inner_losses_have_the_scale_of_the_gradient_scaler(folder: Path) -> None:
    run = parts(folder, *OPTIONS)
    watching = Watching(run.tasks.trained["same"])
    stepper = replace(scaled(run.stepper), adversaries={**run.stepper.adversaries, "same": watching})
    stepper([collate(run.train_splits["same"], [0, 1, 2], task="same")])
    assert [view.scale for view in watching.views] == [stepper.scaler.get_scale()] == [2**16]


def update_parts(*passes: tuple[str, int], steps_each_pass: bool = False) -> Any:
    """Parts of an update, by task and number of passes; a later one may need an optimizer step after each pass."""
    last = len(passes) - 1
    adversaries = [
        SimpleNamespace(passes=count, steps_each_pass=steps_each_pass and number == last)
        for number, (_, count) in enumerate(passes)
    ]
    return [SimpleNamespace(task=task, adversary=one) for (task, _), one in zip(passes, adversaries, strict=True)]


def order(parts: list[UpdatePart], *, by_task: bool = False) -> list[list[int]]:
    return [[parts.index(part) for part in turns] for turns in rounds_of(parts, by_task=by_task)]


def test_the_order_of_backward_passes() -> None:
    mixed = [("a", 2), ("b", 1), ("a", 1)]
    assert order(update_parts(*mixed)) == [[0, 0, 1, 2]]
    assert order(update_parts(*mixed), by_task=True) == [[0, 0, 2], [1]]
    assert order(update_parts(*mixed, ("b", 3), steps_each_pass=True)) == [[0, 1, 2, 3], [0, 3], [3]]


def test_ranks_sum_gradients_in_the_last_pass_before_an_optimizer_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[bool]] = {"freelb": [], "freeat": []}
    for mode, calls in asked.items():
        run = parts(folder, *OPTIONS, f"adversary.mode={mode}", "adversary.passes=3")
        monkeypatch.setattr(Parallel, "synchronise", lambda self, enabled, calls=calls: calls.append(enabled))
        run.stepper([collate(run.train_splits["same"], rows, task="same") for rows in ([0, 1], [2])])
    assert asked == {"freelb": [False] * 5 + [True], "freeat": [False, True] * 3}


def test_a_stepper_with_other_parts_has_the_same_model(folder: Path) -> None:
    stepper = parts(folder, *OPTIONS).stepper
    assert replace(stepper, clip_norm=None).parallel is stepper.parallel
    assert scaled(stepper).model is stepper.model


def test_tf32_holds_for_backward_passes_until_another_precision_is_asked_for() -> None:
    cpu = torch.device("cpu")
    with autocast("tf32", cpu):
        assert not torch.is_autocast_enabled("cpu")
    assert torch.get_float32_matmul_precision() == "high"
    with autocast("bf16", cpu, keeps_casts=False):
        assert torch.is_autocast_enabled("cpu") and not torch.is_autocast_cache_enabled()
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("mode", ["vat", "freelb", "r3f", "rdrop"])
def test_figures_are_computed_where_they_are_logged_and_change_no_weight(folder: Path, mode: str) -> None:
    """But every update counts gradients that are not finite, and has the loss of each task."""
    found = {}
    for every in (1, 2):
        run = parts(folder, *OPTIONS, f"adversary.mode={mode}", "log.dropout_floor_every_steps=null")
        stepper = replace(run.stepper, figures_every_steps=every)
        batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
        figures = [set(stepper([batch], step)[2].sums) - {"nonfinite", "loss/same"} for step in range(4)]
        assert [bool(names) for names in figures] == [(step + 1) % every == 0 for step in range(4)]
        found[every] = weights(run)
    assert largest_change(found[1], found[2]) == 0


def test_the_last_update_of_a_run_has_figures(folder: Path) -> None:
    run = parts(folder, *OPTIONS, "adversary.mode=vat", "log.dropout_floor_every_steps=null")
    last = run.plan.total_steps - 1
    stepper = replace(run.stepper, figures_every_steps=100)
    assert last % 100 != 99
    batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
    assert ["regularizer" in stepper([batch], step)[2].sums for step in (last - 1, last)] == [False, True]


def test_a_measured_dropout_floor_has_the_figures_beside_it(folder: Path) -> None:
    run = parts(folder, *OPTIONS, "adversary.mode=vat", "log.dropout_floor_every_steps=3")
    stepper = replace(run.stepper, figures_every_steps=100)
    batch = collate(run.train_splits["same"], [0, 1, 2], task="same")
    names = [set(stepper([batch], step)[2].sums) for step in range(4)]
    assert ["dropout_floor" in found for found in names] == ["regularizer" in found for found in names]
    assert ["dropout_floor" in found for found in names] == [True, False, False, True]
