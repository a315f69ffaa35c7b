"""What runs on the pretend device: every mode with every task type and every optimizer, and other settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MODES = ("none", "vat", "tat", "freelb", "rapt", "pgd", "freeat", "yopo", "r3f", "r4f", "rdrop")
OPTIMIZERS = ("adamax", "adamw", "adam", "sgd", "radam", "lamb")
# One task of every type, and of every head: of the workspace of the tests.
TASKS = ("same", "overlap", "odd", "linked", "tagged", "chained", "marks", "graded", "guessed", "gap", "found")

# Where the process may wait for the device, and why.
LISTED: Mapping[str, str] = {
    "mt_dnn/training/surgery.py:set_gradients": "the order of projections is drawn on the CPU, once per update",
    "mt_dnn/runs/outputs.py:row_outputs": "the outputs of a batch go to the CPU",
    "mt_dnn/training/precision.py:step": "in fp16 an overflow skips the step",
}
MIXED = ("train.accumulate=3", "train.mix_tasks=true")


class Case(NamedTuple):
    """One update: a batch of one task."""

    mode: str
    task: str
    optimizer: str

    @property
    def name(self) -> str:
        return " ".join(self)


class Setting(NamedTuple):
    """One update with other settings. ``tasks``: one batch of each."""

    tasks: Sequence[str]
    overrides: Sequence[str]


SETTINGS: Mapping[str, Setting] = {
    "lookahead": Setting(["same"], ["optimizer.lookahead.enabled=true", "optimizer.lookahead.steps=1"]),
    "accumulation": Setting(["same", "tagged", "overlap"], [*MIXED, "adversary.mode=freelb"]),
    "pcgrad": Setting(["same", "tagged", "overlap"], [*MIXED, "train.gradient_surgery=pcgrad"]),
    "balance uncertainty": Setting(["same", "tagged", "overlap"], [*MIXED, "train.loss_balance=uncertainty"]),
    "balance log_classes": Setting(["same", "tagged", "overlap"], [*MIXED, "train.loss_balance=log_classes"]),
    "average of weights": Setting(["same"], ["adversary.mode=vat", "adversary.bregman={mu: 1}"]),
    "dropout floor": Setting(["same"], ["adversary.mode=vat", "log.dropout_floor_every_steps=1"]),
    "vat between two records of the log": Setting(["same"], ["adversary.mode=vat", "log.every_steps=2"]),
    "freelb between two records of the log": Setting(["same"], ["adversary.mode=freelb", "log.every_steps=2"]),
    "activation checkpointing": Setting(["same"], ["train.activation_checkpointing=true"]),
    "padded attention": Setting(["same", "tagged"], ["train.fast_paths=[last_block]", "train.accumulate=2", MIXED[1]]),
    "padded encoder": Setting(["same"], ["encoder.attention=padded", "adversary.mode=vat"]),
    "scalar mix": Setting(["same"], ["encoder.scalar_mix=true"]),
    "mean pooling": Setting(["same"], ["encoder.pooler=mean"]),
    "maximum pooling": Setting(["same"], ["encoder.pooler=max"]),
    "attention pooling": Setting(["same"], ["encoder.pooler=attention"]),
    "no dropout": Setting(["same"], ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0"]),
    "same masks": Setting(["same"], ["adversary.mode=vat", "adversary.reuse_dropout_mask=true"]),
    "frozen embeddings": Setting(["same"], ["optimizer.freeze=[embeddings]", "adversary.mode=freelb"]),
    "soft labels": Setting(["same", "odd"], ["train.accumulate=2", "train.mix_tasks=true", "distillation.weight=0.5"]),
    "fp16": Setting(["same"], ["train.precision=fp16"]),
}


def grid() -> list[Case]:
    """Every mode with every task and every optimizer."""
    return [Case(mode, task, optimizer) for mode in MODES for task in TASKS for optimizer in OPTIMIZERS]


def pairs() -> list[Case]:
    """Cases in which each mode meets each task and each optimizer, and each task meets each optimizer."""
    return [
        Case(mode, task, OPTIMIZERS[(i + j) % len(OPTIMIZERS)])
        for i, mode in enumerate(MODES)
        for j, task in enumerate(TASKS)
    ]
