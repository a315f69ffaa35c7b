"""What the benchmarks measure is the step that a run makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.draws import batch_seeds
from mt_dnn.bench.throughput import without_adversary
from mt_dnn.bench.workload import build_workload
from mt_dnn.runs.config_file import load_config


@pytest.mark.parametrize(
    ("options", "scales", "rows"),
    [((), False, True), (("train.precision=fp16",), True, True), (("train.fast_paths=[]",), False, False)],
)
def test_the_step_has_the_scaler_and_the_fast_paths_of_a_run(
    options: tuple[str, ...], scales: bool, rows: bool, workspace: Path
) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", *options])
    work = build_workload(config, "bench")
    stepper = work.stepper(config.adversary)
    assert stepper.scaler.is_enabled() == scales and stepper.word_rows == rows
    encoder = work.model.encoder
    assert encoder.shortens_last_block == encoder.draws_masks == encoder.joins_sequences == rows


def test_batches_have_the_seeds_that_a_run_gives_them(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "seed=5", "device=cpu"])
    work, seen = build_workload(config, "bench"), list[tuple[int, int]]()

    def stepper(update: list[Batch], step: int) -> None:
        seen.append((update[0].share.seed, step))

    for shared in (False, True):
        work.spent(stepper, work.chunk(3), shared=shared)  # type: ignore[arg-type]
    assert seen == [(batch_seeds(5, step, 1)[0], step) for step in range(3)] * 2


def test_a_batch_that_the_rows_do_not_fill_is_refused(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "train.batch_size=100_000"])
    with pytest.raises(UserError, match=r"^bench: same: has \d+ training rows; choose a smaller batch than 100000$"):
        build_workload(config, "bench")


@pytest.mark.parametrize("override", ["adversary.mode=r4f", "adversary=preset:tat/paper"])
def test_the_plain_step_has_no_adversary(override: str, workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", override])
    assert config.adversary.mode != "none" and without_adversary(config).adversary == NoneOptions()


def test_the_cpu_has_no_tf32(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "device=cpu", "train.precision=tf32"])
    with pytest.raises(UserError, match=r"^train.precision: tf32 is a number type of GPUs, .* use fp32"):
        build_workload(config, "bench")
