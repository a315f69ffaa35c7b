"""Training steps on a GPU: finite in every mode and precision, without waits, the same as on a CPU."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mt_dnn.adversarial.base import Adversary
from mt_dnn.batches.draws import Draws, seed_step
from mt_dnn.telemetry import Telemetry
from tests.gpu.device import (
    DEVICE,
    MODES,
    NEEDS_DEVICE,
    NO_DROPOUT,
    batch_of,
    losses,
    no_wait,
    run_on,
)
from tests.workspace import MORE_TASKS, make_workspace

pytestmark = NEEDS_DEVICE
TASKS = ("overlap", "odd", "linked", "tagged", "chained", "marks", "graded", "guessed", "gap", "found")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    make_workspace(folder, train_rows=16, more=list(MORE_TASKS))
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("mode", MODES)
def test_losses_are_finite_and_fall(folder: Path, mode: str, precision: str) -> None:
    options = [*NO_DROPOUT, "optimizer.lr=1e-2", f"train.precision={precision}"]
    found = losses(run_on(DEVICE, folder, *options, mode=mode), 24)
    assert all(map(math.isfinite, found)) and sum(found[-3:]) < sum(found[:3])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains(folder: Path, task: str) -> None:
    found = losses(run_on(DEVICE, folder, f"tasks=[{task}]", "train.precision=bf16", mode="tat"), 3, task=task)
    assert all(map(math.isfinite, found))


@pytest.mark.parametrize("mode", MODES)
def test_a_step_does_not_wait_for_the_gpu(folder: Path, mode: str) -> None:
    if DEVICE != "cuda":
        pytest.skip("needs a GPU")
    run = run_on(DEVICE, folder, "train.precision=bf16", "log.dropout_floor_every_steps=null", mode=mode)
    losses(run, 2)  # optimizers make their state, and attention tries its operators
    with no_wait():
        run.stepper([batch_of(run)], 2)


def test_fp16_waits_once(folder: Path) -> None:
    if DEVICE != "cuda":
        pytest.skip("needs a GPU")
    run = run_on(DEVICE, folder, "train.precision=fp16")
    losses(run, 2)
    batch = batch_of(run)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.stepper([batch], 2)
    torch.cuda.set_sync_debug_mode("default")
    assert len([found for found in caught if "synchroniz" in str(found.message)]) == 1


@pytest.mark.parametrize("mode", ["none", "pgd", "freelb"])
def test_losses_are_those_of_a_cpu(folder: Path, mode: str) -> None:
    """Without dropout, and from δ = 0: noise is drawn in another way on a GPU."""
    options = [*NO_DROPOUT, "optimizer.name=sgd", "optimizer.lr=0.05"]
    options += ["adversary.init_magnitude=0", "adversary.step_size=0.5", "adversary.radius=1"] if mode != "none" else []
    cpu, gpu = (losses(run_on(device, folder, *options, mode=mode), 3) for device in ("cpu", DEVICE))
    assert gpu == pytest.approx(cpu, abs=1e-4)


def test_the_same_seed_gives_the_same_losses(folder: Path) -> None:
    """Up to rounding: sums of a GPU have another order each time."""
    first, second = (losses(run_on(DEVICE, folder, mode="vat"), 4) for _ in range(2))
    assert first == pytest.approx(second, abs=1e-3)


def losses_of_one_batch(run: Any, adversary: Adversary[Any]) -> tuple[list[float], Telemetry]:
    """The losses that a mode yields for a batch, and its figures."""
    (part,) = run.stepper._parts([batch_of(run)], 16, 0)
    seed_step(1, 1)
    found = []
    for loss in adversary(part.view):
        found.append(loss.item())
        loss.backward()
    return found, part.view.telemetry


def test_passes_repeat_their_dropout_masks(folder: Path) -> None:
    options = ["adversary.init_magnitude=0", "adversary.step_size=0", "encoder.dropout=0.3"]
    run = run_on(DEVICE, folder, *options, mode="freelb")
    run.model.train()
    found, _ = losses_of_one_batch(run, run.stepper.adversaries["same"])
    assert len(found) == 3 and found == pytest.approx([found[0]] * 3, abs=1e-6)
    options = ["adversary.noise_std=0", "adversary.step_size=0", "encoder.dropout=0.3"]
    for reuse in (True, False):
        run = run_on(DEVICE, folder, *options, f"adversary.reuse_dropout_mask={str(reuse).lower()}", mode="vat")
        run.model.train()
        _, telemetry = losses_of_one_batch(run, run.stepper.adversaries["same"])
        assert (telemetry.values()["regularizer"] < 1e-9) == reuse


def test_the_norm_of_an_r4f_head_is_one_in_bf16(folder: Path) -> None:
    run = run_on(DEVICE, folder, "train.precision=bf16", mode="r4f")
    losses(run, 20)
    linear: Any = run.model.heads["same"].get_submodule("linear")
    run.model.eval()
    weight: Tensor = linear.weight.detach()
    assert weight.dtype == torch.float32
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_ranks_draw_the_same_noise(folder: Path) -> None:
    run = run_on(DEVICE, folder)
    batch = batch_of(run)
    state = torch.zeros(len(batch.input_ids), 8, device=run.device)
    rows = Draws(batch).normal(state).split(list(batch.share.tokens))
    share = replace(batch.share, positions=(3, 9))
    part = replace(batch, share=share)
    drawn = Draws(part)
    drawn.count = 1
    if DEVICE == "cuda":
        found = drawn.of_all_ranks(share.tokens, (8,), torch.randn, run.device)
        assert found.equal(torch.cat([rows[3], rows[9]]))
    again = Draws(batch).normal(state)
    assert again.equal(torch.cat(rows)) and abs(float(again.std()) - 1) < 0.1
