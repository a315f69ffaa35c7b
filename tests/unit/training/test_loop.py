"""train(): positions, exact continuation, randomness by step; and what is refused before a run starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.batches.draws import seed_step
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.log import MetricsLog
from mt_dnn.runs.run import Run
from mt_dnn.training.loop import Position, Step, made_ahead, train
from tests.parts import Parts, parts


def events(run: Parts, start: Position, count: int) -> list[Step]:
    steps = train(run.stepper, run.train_splits, run.plan, device=run.device, start=start)
    return [step for _, step in zip(range(count), steps, strict=False)]


def test_positions_count_updates_and_epochs(workspace: Path) -> None:
    run = parts(workspace, "tasks=[same]", "train.accumulate=4")
    steps = events(run, Position(), 99)
    assert [(s.position.step, s.position.epoch, s.position.update) for s in steps] == [
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
        (4, 2, 0),
    ]
    assert [s.epoch_end for s in steps] == [False, True, False, True]
    assert [s.last for s in steps] == [False, False, False, True]
    assert [s.examples for s in steps] == [32, 16, 32, 16]
    assert len(steps) == run.plan.total_steps


def test_max_steps_ends_the_run_and_the_schedule(workspace: Path) -> None:
    run = parts(workspace, "train.max_steps=3", "train.epochs=5")
    steps = events(run, Position(), 99)
    assert [s.last for s in steps] == [False, False, True] and run.plan.total_steps == 3
    assert run.stepper.schedule.get_last_lr()[0] == 0


def test_continuing_from_a_position_repeats_nothing_and_skips_nothing(workspace: Path) -> None:
    whole, part = parts(workspace), parts(workspace)
    expected = [step.loss.item() for step in events(whole, Position(), 9)]
    first = events(part, Position(), 4)
    second = events(part, first[-1].position, 5)
    assert [step.loss.item() for step in [*first, *second]] == expected


def test_random_numbers_depend_on_seed_step_and_rank_only() -> None:
    def draw(*key: int) -> list[float]:
        torch.rand(3)
        seed_step(*key)
        return torch.rand(4).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(*key)) for key in ((1, 2), (1, 3), (2, 2), (1, 2, 1))}) == 4


def test_a_loss_that_is_not_finite_stops_the_run_with_a_remedy(workspace: Path) -> None:
    config = load_config(workspace / "run.yml")
    run = Run(config)
    with torch.no_grad():
        run.parts.model.encoder.get_parameter("model.pooler.dense.weight").fill_(float("nan"))
    with pytest.raises(UserError, match=r"update 5: the loss is not finite; lower optimizer\.lr") as caught:
        run()
    assert str(caught.value).endswith("train.precision=fp32. There is no checkpoint yet")
    assert not (workspace / "run" / "checkpoints").exists()


def with_infinite_gradient(config: RunConfig, update: int) -> Run:
    """A run in which one entry of a head's gradient is infinite in this update, counted from 1."""
    run, done = Run(config), [0]

    def spoilt(gradient: Tensor) -> Tensor:
        done[0] += 1
        return gradient.index_fill(1, torch.tensor(0), math.inf) if done[0] == update else gradient

    head: Any = run.parts.model.heads["same"]
    head.linear.weight.register_hook(spoilt)
    return run


def assert_finite(checkpoint: Path) -> None:
    files = list(checkpoint.rglob("*.safetensors"))
    assert len(files) == 3 and all(value.isfinite().all() for file in files for value in load_file(file).values())


@pytest.mark.parametrize("often", ["checkpoint.every_steps=1", "evaluation.every_steps=1"])
def test_weights_that_are_not_finite_are_neither_scored_nor_saved(often: str, workspace: Path) -> None:
    """An infinite gradient of a finite loss: clipping makes a NaN of it."""
    run = with_infinite_gradient(load_config(workspace / "run.yml", ["tasks=[same]", often]), 3)
    with pytest.raises(UserError, match=r"update 3: a weight is not finite; lower optimizer\.lr") as caught:
        run()
    assert "\n" not in str(caught.value) and str(caught.value).endswith("The last checkpoint was saved before this")
    found = last_checkpoint(run.folder)
    assert found is not None and found.name == "step-00000002"
    assert_finite(found)
    assert '"step": 3' not in (workspace / "run" / "metrics.jsonl").read_text()


def test_an_update_that_the_gradient_scaler_leaves_out_stops_nothing(workspace: Path) -> None:
    options = ["tasks=[same]", "train.precision=fp16", "checkpoint.every_steps=1"]
    run = with_infinite_gradient(load_config(workspace / "run.yml", options), 3)
    assert isinstance(run(), dict) and run.parts.stepper.schedule.last_epoch < run.parts.plan.total_steps
    found = last_checkpoint(run.folder)
    assert found is not None
    assert_finite(found)


def test_one_process_per_run_folder(workspace: Path) -> None:
    from mt_dnn.runs.folder import locked

    run = Run(load_config(workspace / "run.yml"))
    with locked(workspace / "run"):
        with pytest.raises(UserError, match="another process"):
            Run(load_config(workspace / "run.yml"))
        with pytest.raises(UserError, match="another process"):
            run()


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, resume_step=0)
    for step in (1, 2, 3):
        log.write({"event": "train", "step": step, "loss": 0.5})
    log.close()
    with log.path.open("a") as stream:
        stream.write('{"event": "train", "st')  # a write that was cut off
    MetricsLog(tmp_path, resume_step=2).close()
    assert [line[-15:] for line in log.path.read_text().splitlines()] == ['1, "loss": 0.5}', '2, "loss": 0.5}']


def test_the_next_item_is_made_ahead_and_no_more() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    found = []
    for number in made_ahead(items(), torch.device("cpu")):
        found.append(number)
        assert len(made) <= number + 2
    assert found == made == list(range(5))


def test_an_error_of_the_thread_reaches_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UserError("broken row")

    with pytest.raises(UserError, match="broken row"):
        list(made_ahead(items(), torch.device("cpu")))


def test_a_caller_may_stop_early() -> None:
    items = made_ahead(iter(range(1, 9)), torch.device("cpu"))
    assert next(items) == 1
    items.close()


@pytest.mark.parametrize(("device", "present"), [("cuda", 3), ("cuda:1", 1)])
def test_the_thread_has_the_same_gpu_as_its_caller(device: str, present: int, monkeypatch: pytest.MonkeyPatch) -> None:
    main, chosen = current_thread(), list[tuple[int, bool]]()
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: chosen.append((number, current_thread() is main)))
    assert list(made_ahead(iter([1, 2]), torch.device(device))) == [1, 2]
    assert chosen == [(present, False)]
