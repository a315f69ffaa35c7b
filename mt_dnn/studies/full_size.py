"""What a run would cost on a GPU, on paper: for encoders and rows that are not on this machine. Nothing is measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from data_utils.errors import MissingRows
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.runs.config import RunConfig
from mt_dnn.studies.cost import CHARACTERS, FORWARD, texts
from mt_dnn.studies.identity import run_tasks

SIZES = Path(__file__).parent / "full_size.yml"  # of encoders and data sets
USUAL_TOKENS = 40  # of a row that is not here
FLOPS_PER_S = 100e12  # of an update; a third of the peak of an A100 in bf16, as its maker states it
BYTES_OF_PARAMETER = 16  # weight, gradient and two moments of AdamW, in fp32
BYTES_OF_STATE = 34  # of activations for each entry of a state and block, in 16 bits (Korthikanti et al. 2022, table 2)
ASSUMPTIONS = (
    f"an estimate, nothing is measured: {FLOPS_PER_S / 1e12:.0f} TFLOP/s, {BYTES_OF_PARAMETER} bytes a parameter, "
    f"{BYTES_OF_STATE} bytes of activations for each entry of a state and block; rows that are not here: as many as "
    f"published, {USUAL_TOKENS} tokens each; dev rows are not counted"
)


@dataclass(frozen=True)
class Estimate:
    """GPU hours and gigabytes of GPU memory of a run."""

    hours: float
    gigabytes: float


def estimate(config: RunConfig) -> Estimate | None:
    """The estimate for a run. None if the size of its encoder or data is not known."""
    name = (config.encoder.name or "").rstrip("/").split("/")[-1]
    trained = run_tasks(config).trained
    rows = {task: _rows(config, task) for task in trained}
    if name not in _sizes()["encoders"] or None in rows.values():
        return None
    blocks, hidden, vocabulary = _sizes()["encoders"][name]
    blocks = len(config.encoder.blocks) if config.encoder.blocks is not None else blocks
    weights = 12 * hidden * hidden * blocks  # attention has 4 matrices of hidden², the two layers behind it 8
    flops = largest = 0.0
    adversaries = build_adversaries(config.adversary, trained)
    for task, found in rows.items():
        assert found is not None
        count, tokens = found
        size = config.train.batch_sizes.get(task, config.train.batch_size)
        passes = min(config.train.epochs * count, (config.train.max_steps or count * config.train.epochs) * size)
        of_token = (2 * weights + 4 * tokens * hidden * blocks) / FORWARD
        flops += passes * tokens * of_token * adversaries[task].cost_floor(blocks)
        largest = max(largest, size * tokens)
    memory = BYTES_OF_PARAMETER * (weights + vocabulary * hidden) + BYTES_OF_STATE * largest * hidden * blocks
    return Estimate(flops / FLOPS_PER_S / 3600, memory / 1e9)


@lru_cache
def _sizes() -> dict[str, Any]:
    return yaml.safe_load(SIZES.read_text(encoding="utf-8"))


def _rows(config: RunConfig, task: str) -> tuple[int, float] | None:
    """The number of training rows of a task and their mean length in tokens. None if they are not known."""
    data = config.data
    try:
        read = texts(config, run_tasks(config).trained[task], "train", stop=data.max_rows)
        return read.rows, read.characters / max(read.rows, 1) / CHARACTERS
    except MissingRows:
        known = _sizes()["training_rows"].get(task.split("_")[0])
        return None if known is None else (min(known, data.max_rows or known), USUAL_TOKENS)
