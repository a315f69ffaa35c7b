"""A model and batches of one task. All measurements use the same."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.modes import Options, build_adversaries
from mt_dnn.batches.collate import collate, local_batch
from mt_dnn.batches.draws import seed_step
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.runs.build import (
    build_model,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    check_labels,
    choose_device,
    with_memory_options,
)
from mt_dnn.runs.config import RunConfig
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel
from mt_dnn.training.precision import loss_scaler
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper


@dataclass(frozen=True)
class Workload:
    """One task: its model on a device, its training rows, and batches of them.

    ``batches``: arrays of row numbers. All have ``train.batch_size`` rows, unless the task has fewer rows.
    """

    config: RunConfig
    tokenizer: PreTrainedTokenizerBase
    model: Any
    task: TaskDef
    split: Prepared
    batches: list[Any]
    device: torch.device

    def chunks(self, updates: int, rounds: int) -> list[list[Any]]:
        """The row numbers of ``updates`` batches for each round. There is one more round, which warms up."""
        return [
            [self.batches[(r * updates + i) % len(self.batches)] for i in range(updates)] for r in range(rounds + 1)
        ]

    def stepper(self, adversary: Options, *, alone: bool = False) -> Stepper:
        """Builds our training step on the shared model, in one adversarial mode. ``alone``: without other ranks."""
        optimizer = build_optimizer(self.model, self.config.optimizer)
        tasks = {self.task.name: self.task}
        return Stepper(
            parallel=Parallel(self.model, alone=alone),
            tasks=tasks,
            adversaries=build_adversaries(adversary, tasks),
            optimizer=optimizer,
            schedule=build_schedule(optimizer, self.config.schedule, 1_000_000),
            clip_norm=self.config.train.clip_norm,
            precision=self.config.train.precision,
            scaler=loss_scaler(self.config.train.precision, self.device),
            word_rows="word_gradients" in self.config.train.fast_paths,
        )

    def seconds(self, stepper: Stepper, chunk: Sequence[Any], *, shared: bool = False) -> float:
        """Makes one update per batch of the chunk. Returns the seconds that this takes, with collation.

        ``shared``: each rank takes its part of every batch, not the complete batch.
        """
        start = time.perf_counter()
        for number, rows in enumerate(chunk):
            seed_step(0, number)
            part = MicroBatch(self.task.name, rows)
            batch = local_batch(self.split, part, 0) if shared else collate(self.split, rows, task=self.task.name)
            stepper([batch.to(self.device)])
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def build_workload(config: RunConfig, command: str) -> Workload:
    """Builds the model and the batches of the task of a configuration. Error messages begin with ``command``.

    Raises:
        UserError: the configuration does not choose exactly one task, or the task has no training rows.
    """
    tasks = build_tasks(config)
    if len(tasks.trained) != 1:
        raise UserError(f"{command}: choose one task, for example 'tasks=[{next(iter(tasks.trained))}]'")
    (name, task), device = next(iter(tasks.trained.items())), choose_device(config.device)
    tokenizer = build_tokenizer(config)
    splits, problems = build_splits(config, [(task, "train")], tokenizer)
    if problems:
        raise UserError(problems[0])
    split = splits[name, "train"]
    check_labels(config, {name: split})
    plan = [next(part.rows for part in update) for update in build_plan(config, {name: len(split)}).epoch(0)]
    full = [rows for rows in plan if len(rows) == config.train.batch_size] or plan
    model = with_memory_options(build_model(config, tasks, tokenizer), config.train).to(device).train()
    return Workload(config, tokenizer, model, task, split, full, device)


def machine(device: torch.device) -> dict[str, Any]:
    """Device and versions. The speed depends on them."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        **versions,
        "python": platform.python_version(),
    }
