"""What the benchmarks measure is the step that a run makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.errors import UserError
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


def test_the_cpu_has_no_tf32(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "device=cpu", "train.precision=tf32"])
    with pytest.raises(UserError, match=r"^train.precision: tf32 is a number type of GPUs, .* use fp32"):
        build_workload(config, "bench")
