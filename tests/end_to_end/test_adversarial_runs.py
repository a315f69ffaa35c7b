"""Runs of every adversarial mode: figures in the log, tallies, exact resume, mixed precision, mixed updates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.batches.collate import collate
from mt_dnn.batches.draws import seed_step
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.training.loop import Step, train
from tests.extras import skip_without
from tests.workspace import make_workspace

FIGURES = {
    "none": set[str](),
    "vat": {"regularizer", "delta_ratio", "gradient_share", "nonfinite", "dropout_floor", "measured_regularizer"},
    "tat": {"regularizer", "delta_ratio", "gradient_share", "nonfinite", "dropout_floor", "measured_regularizer"},
    "freelb": {"delta_ratio", "gradient_share", "nonfinite", "first_pass_loss", "last_pass_loss"},
    "rapt": {"regularizer", "delta_ratio", "dropout_floor", "measured_regularizer"},
    "pgd": {"delta_ratio", "gradient_share", "nonfinite"},
    "freeat": {"delta_ratio", "gradient_share", "nonfinite", "first_pass_loss", "last_pass_loss"},
    "yopo": {"delta_ratio", "gradient_share", "nonfinite"},
    "r3f": {"regularizer", "delta_ratio", "dropout_floor", "measured_regularizer"},
    "r4f": {"regularizer", "delta_ratio", "dropout_floor", "measured_regularizer"},
    "rdrop": {"regularizer", "dropout_floor", "measured_regularizer"},
}
OWN = {"rapt": ["adversary.max_layer=2"]}
TASKS = ("same", "negated", "overlap")
STATEFUL = {
    "tat": ["adversary.tally=hard"],
    "tat soft": ["adversary.tally=soft", "adversary.reuse_clean_pass=true"],
    "tat types": ["tasks=[odd,tagged,found]"],
    "tat taught": ["tasks=[odd,tagged,found]", "distillation.weight=0.5"],
    "vat": ["adversary.bregman={mu: 1, beta: 0.9, beta_after_warmup: 0.99}", "adversary.steps=2"],
    "freelb": [],
    "pgd balanced": ["train.loss_balance=uncertainty", "train.gradient_surgery=pcgrad"],
    "freeat": [],
    "rapt": OWN["rapt"],
    "r4f": [],
}
EACH_FLOOR = "log.dropout_floor_every_steps=1"
TIMINGS = {"examples_per_s", "tokens_per_s"}


class CutError(Exception):
    """The power fails."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_workspace(folder, more=["odd", "tagged", "found"], soft=True)
    return folder


def run_of(folder: Path, output: str, mode: str, *options: str) -> Run:
    own = ["tasks=[same,negated,overlap]", f"adversary.mode={mode}", *OWN.get(mode, []), f"output={folder / output}"]
    return Run(load_config(folder / "run.yml", [*own, *options]))


def records(run: Path, event: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines if line["event"] == event]


def tallies(run: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted((run / "adversary").glob("*"))}


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_a_run_ends_with_finite_figures(mode: str, folder: Path) -> None:
    run = run_of(folder, f"figures-{mode}", mode, "train.epochs=1", "data.max_rows=16", "log.every_steps=3", EACH_FLOOR)
    summary = run()
    assert isinstance(summary, dict) and summary["steps"] == 6
    logged = records(run.folder)
    assert len(logged) == 2
    for record in logged:
        figures = record.get("adversary", {})
        assert math.isfinite(record["loss"]) and all(math.isfinite(value) for value in figures.values())
        assert set(figures) == FIGURES[mode]
        assert figures.get("nonfinite", 0) == 0 and 0 < figures.get("gradient_share", 0.5) < 1
        assert all(value > 0 for name, value in figures.items() if name != "nonfinite")
    assert (mode == "tat") == (run.folder / "adversary").exists()


def test_the_dropout_floor_is_measured_every_so_many_updates(folder: Path) -> None:
    options = ["tasks=[same]", "log.every_steps=3", "log.dropout_floor_every_steps=8"]
    run = run_of(folder, "floor", "vat", *options)
    run()
    measured = {record["step"]: "dropout_floor" in record["adversary"] for record in records(run.folder)}
    assert measured == {3: True, 6: False, 9: True, 12: False}  # in updates 0 and 8


def test_the_regularizer_beside_the_floor_is_of_the_same_update(folder: Path) -> None:
    options = ["tasks=[same]", "log.every_steps=1", "log.dropout_floor_every_steps=2", "train.max_steps=3"]
    run = run_of(folder, "beside", "vat", *options)
    run()
    figures = [record["adversary"] for record in records(run.folder)]
    assert [record.get("measured_regularizer") for record in figures] == [
        figures[0]["regularizer"],
        None,
        figures[2]["regularizer"],
    ]


def test_tallies_are_written_once_per_epoch_and_count_every_example(folder: Path) -> None:
    run = run_of(folder, "tallies", "tat", "adversary.tasks.negated.mode=none")
    run()
    written = tallies(run.folder)
    assert list(written) == [f"{task}-epoch-{n:03d}.json" for task in ("overlap", "same") for n in (1, 2)]
    for name, record in written.items():
        task = name.split("-")[0]
        counts = torch.tensor(record["counts"])
        assert record["task"] == task and record["epoch"] == int(name[-8:-5])
        assert counts.sum() == 48 and counts.shape == ((2, 2) if task == "same" else (10, 10))
        torch.testing.assert_close(torch.tensor(record["probabilities"]).sum(1), torch.ones(len(counts)))
    assert torch.tensor(written["same-epoch-001.json"]["counts"]).sum(1).tolist() == [24, 24]  # rows are gold
    assert written["same-epoch-001.json"] != written["same-epoch-002.json"]


def test_a_tally_of_one_run_is_the_oracle_of_another(folder: Path) -> None:
    first = run_of(folder, "before-oracle", "tat", "tasks=[overlap]", "train.epochs=1")
    first()
    oracle = first.folder / "adversary" / "overlap-epoch-001.json"
    content = json.loads(oracle.read_text())
    content["counts"][2][3] += 7  # or the second run's own errors would be the same
    oracle.write_text(json.dumps(content))
    second = run_of(folder, "oracle", "tat", "tasks=[overlap]", f"adversary.oracle={oracle}", "adversary.tally=fixed")
    second()
    likely = [count + 1 for label, count in enumerate(content["counts"][2]) if label != 2]
    for record in tallies(second.folder).values():
        assert record["counts"] == content["counts"]
        assert record["probabilities"][2][3] == pytest.approx((content["counts"][2][3] + 1) / sum(likely))


def cut_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process dies in this update, after some that no checkpoint holds."""

    def dying(*args: Any, **kwargs: Any) -> Iterator[Step]:
        for event in train(*args, **kwargs):
            if event.position.step == step:
                raise CutError
            yield event

    monkeypatch.setattr("mt_dnn.runs.run.train", dying)


@pytest.mark.parametrize("mode", [pytest.param(mode, marks=skip_without(STATEFUL[mode])) for mode in STATEFUL])
def test_a_run_cut_in_mid_epoch_is_continued_exactly(mode: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*STATEFUL[mode], "checkpoint.every_steps=4", "train.accumulate=2", "train.mix_tasks=true"]
    options += ["evaluation.metric=null", "log.dropout_floor_every_steps=2", "data.max_rows=24", "log.every_steps=3"]
    name, mode = mode.replace(" ", "-"), mode.split()[0]
    whole = run_of(folder, f"whole-{name}", mode, *options)
    summary = whole()
    with monkeypatch.context() as patch:
        cut_at(patch, 10)  # 5 updates make an epoch
        with pytest.raises(CutError):
            run_of(folder, f"cut-{name}", mode, *options)()
    cut = run_of(folder, f"cut-{name}", mode, *options)
    assert cut.parts.progress.position.step == 8 and cut.parts.progress.position.update == 3
    if mode == "tat":
        counted = [one.state_dict() for one in cut.parts.stepper.adversaries.values()]
        assert all(torch.tensor(state[key]).sum() > 0 for state in counted if state for key in ("last", "current"))
        assert any(counted)
    assert cut() == summary
    one, other = last_checkpoint(whole.folder), last_checkpoint(cut.folder)
    assert one is not None and other is not None and one.name == other.name
    files = {str(path.relative_to(one)) for path in one.rglob("*.safetensors")}
    assert len(files) == (4 if mode == "vat" else 3) and ("trainer/average.safetensors" in files) == (mode == "vat")
    for file in files:
        left, right = load_file(one / file), load_file(other / file)
        assert left.keys() == right.keys() and all(left[key].equal(right[key]) for key in left), file
    assert (one / "trainer/state.json").read_text() == (other / "trainer/state.json").read_text()
    assert records(whole.folder) == records(cut.folder)
    assert tallies(whole.folder) == tallies(cut.folder) and bool(tallies(whole.folder)) == (mode == "tat")


def test_the_average_is_not_the_model(folder: Path) -> None:
    """What is resumed above differs from what a new average would start from."""
    run = run_of(folder, "average", "vat", *STATEFUL["vat"], "train.epochs=1")
    run()
    found = last_checkpoint(run.folder)
    assert found is not None and run.parts.stepper.average is not None
    saved = load_file(found / "trainer" / "average.safetensors")
    slow, fast = run.parts.stepper.average.model.state_dict(), run.parts.model.state_dict()
    assert saved.keys() == slow.keys() == fast.keys()
    assert all(saved[name].equal(slow[name]) for name in saved)
    assert any(not slow[name].equal(fast[name]) for name in slow)


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_losses_in_bfloat16_follow_those_in_float32(mode: str, folder: Path) -> None:
    still = ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0", "train.epochs=1"]
    still += ["data.max_rows=16", "log.every_steps=1"]
    losses = []
    for precision in ("fp32", "bf16"):
        run = run_of(folder, f"{precision}-{mode}", mode, f"train.precision={precision}", *still)
        assert isinstance(run(), dict)
        losses.append([record["loss"] for record in records(run.folder)])
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.05)


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_one_update_in_bfloat16(mode: str, folder: Path) -> None:
    run = run_of(folder, "bf16", mode, "train.precision=bf16", "schedule.warmup_fraction=0")
    run.parts.model.train()
    before = {name: p.detach().clone() for name, p in run.parts.model.named_parameters()}
    for task in TASKS:
        seed_step(1, 0)
        loss, norm, telemetry = run.parts.stepper([collate(run.parts.train_splits[task], list(range(8)), task=task)])
        figures = telemetry.values()
        assert loss.isfinite() and norm.isfinite() and figures.get("nonfinite", 0) == 0
        assert all(math.isfinite(value) for value in figures.values())
    still = {name for name, p in run.parts.model.named_parameters() if p.equal(before[name])}
    assert all(name.endswith(".bias") for name in still)  # their gradients may sum to zero
    assert all(p.dtype == torch.float32 for p in run.parts.model.parameters())


@pytest.fixture(scope="module")
def run_in_float16(request: pytest.FixtureRequest, folder: Path) -> Run:
    """A run of the mode that is the parameter. All tasks are tried with it, since updates change next to nothing."""
    return run_of(folder, "fp16", request.param, "train.precision=fp16", "schedule.name=constant", "optimizer.lr=1e-6")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("run_in_float16", ADVERSARIES, indirect=True)
def test_perturbations_do_not_overflow_where_weights_do_not(run_in_float16: Run, task: str) -> None:
    """float16: once the scale is such that updates are made, gradients of perturbations are finite too."""
    parts = run_in_float16.parts
    parts.model.train()
    batch, made = collate(parts.train_splits[task], list(range(8)), task=task), 0
    for step in range(8):
        seed_step(1, step)
        done = parts.stepper.schedule.last_epoch
        loss, _, telemetry = parts.stepper([batch], step)
        if parts.stepper.schedule.last_epoch > done:
            assert loss.isfinite() and telemetry.values().get("nonfinite", 0) == 0
            made += 1
        if made == 3:
            return
    assert made == 2


MIXED = ["adversary.tasks.negated={mode: tat, tally: soft}", "train.accumulate=2", "train.mix_tasks=true"]


@pytest.mark.parametrize("other", ["none", "freelb", "rapt"])
def test_updates_may_mix_modes(other: str, folder: Path) -> None:
    own = f"adversary.tasks.overlap={{mode: {other}{', max_layer: 2' if other == 'rapt' else ''}}}"
    run = run_of(folder, f"mixed-{other}", "freeat", *MIXED, own, "train.epochs=1")
    summary = run()
    assert isinstance(summary, dict) and summary["steps"] == 9
    logged = records(run.folder)
    assert all(math.isfinite(record["loss"]) for record in logged)
    assert {"gradient_share", "regularizer"} <= {name for record in logged for name in record["adversary"]}
    assert list(tallies(run.folder)) == ["negated-epoch-001.json"]


@pytest.mark.parametrize("other", ["none", "freelb"])
def test_the_loss_of_a_mixed_update_is_that_of_its_examples(other: str, folder: Path) -> None:
    """Without perturbation, dropout and learning, all passes give the same losses, and so does plain training."""
    still = ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0", "optimizer.lr=1e-12"]
    at_zero = ["adversary.step_size=0", "adversary.init_magnitude=0"]
    own = [] if other == "none" else [option.replace(".", ".tasks.overlap.", 1) for option in at_zero]
    losses = []
    for options in (["none"], ["freeat", *at_zero, f"adversary.tasks.overlap.mode={other}", *own]):
        run = run_of(folder, "loss", *options, *still)
        update = [collate(run.parts.train_splits[task], [0, 1, 2], task=task) for task in ("same", "overlap")]
        losses.append(run.parts.stepper(update)[0].item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
