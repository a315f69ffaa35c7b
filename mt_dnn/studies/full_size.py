"""What a run would cost on a GPU, on paper: for encoders and rows that are not on this machine. Nothing is measured."""

from __future__ import annotations

from dataclasses import dataclass

from data_utils.errors import MissingRows
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.runs.config import RunConfig
from mt_dnn.studies.cost import CHARACTERS, FORWARD, texts
from mt_dnn.studies.identity import run_tasks

# name → blocks, hidden size, entries of the vocabulary
SHAPES = {
    "bert-base-uncased": (12, 768, 30522),
    "bert-base-cased": (12, 768, 28996),
    "bert-large-uncased": (24, 1024, 30522),
    "bert-large-cased": (24, 1024, 28996),
    "roberta-base": (12, 768, 50265),
    "roberta-large": (24, 1024, 50265),
    "electra-base-discriminator": (12, 768, 30522),
    "electra-large-discriminator": (24, 1024, 30522),
    "xlm-roberta-base": (12, 768, 250002),
    "xlm-roberta-large": (24, 1024, 250002),
    "distilbert-base-cased": (6, 768, 28996),
}
# Training rows of data sets that may not be here, as their papers or pages state them.
TRAIN_ROWS = {
    "mnli": 392_702,
    "xnli": 392_702,
    "snli": 549_367,
    "qqp": 363_846,
    "qnli": 104_743,
    "sst2": 67_349,
    "scitail": 23_596,
    "mednli": 11_232,
    "cola": 8_551,
    "stsb": 5_749,
    "mrpc": 3_668,
    "rte": 2_490,
}
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
    if name not in SHAPES or None in rows.values():
        return None
    blocks, hidden, vocabulary = SHAPES[name]
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


def _rows(config: RunConfig, task: str) -> tuple[int, float] | None:
    """The number of training rows of a task and their mean length in tokens. None if they are not known."""
    data = config.data
    try:
        read = texts(config, run_tasks(config).trained[task], "train", stop=data.max_rows)
        return read.rows, read.characters / max(read.rows, 1) / CHARACTERS
    except MissingRows:
        known = TRAIN_ROWS.get(task.split("_")[0])
        return None if known is None else (min(known, data.max_rows or known), USUAL_TOKENS)
