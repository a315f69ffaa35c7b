"""A model and batches of one task. All measurements use the same."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
import transformers
from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.modes import Options, build_adversaries
from mt_dnn.batches.batch import Share
from mt_dnn.batches.collate import collate, local_batch
from mt_dnn.batches.draws import batch_seeds, seed_step
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.runs.build import (
    build_model,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    check_labels,
    check_precision,
    choose_device,
    figures_every_steps,
    with_memory_options,
)
from mt_dnn.runs.config import RunConfig
from mt_dnn.tasks.run_tasks import Tasks
from mt_dnn.training.memory import keep_freed_memory
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel
from mt_dnn.training.precision import loss_scaler
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper


class Spent(NamedTuple):
    """Seconds on the clock, and seconds that all threads of this process had a processor."""

    wall: float
    cpu: float


def now() -> Spent:
    """The time of both clocks."""
    return Spent(time.perf_counter(), time.process_time())


def since(start: Spent) -> Spent:
    """The seconds since ``start``, a result of ``now``."""
    wall, cpu = now()
    return Spent(wall - start.wall, cpu - start.cpu)


@dataclass(frozen=True)
class BenchRows:
    """The training rows of one task, and batches of them, without a model.

    ``batches``: arrays of row numbers. All have ``train.batch_size`` rows.
    """

    config: RunConfig
    tokenizer: PreTrainedTokenizerBase
    tasks: Tasks
    split: Prepared
    batches: list[Any]
    device: torch.device

    @property
    def task(self) -> TaskDef:
        return next(iter(self.tasks.trained.values()))

    def chunk(self, updates: int, start: int = 0) -> list[Any]:
        """The row numbers of ``updates`` batches, from batch ``start`` on."""
        return [self.batches[number % len(self.batches)] for number in range(start, start + updates)]

    def chunks(self, updates: int, rounds: int) -> list[list[Any]]:
        """The row numbers of ``updates`` batches for each round. There is one more round, which warms up."""
        return [self.chunk(updates, number * updates) for number in range(rounds + 1)]

    def synchronize(self) -> None:
        """Waits until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Workload(BenchRows):
    """One task: its training rows, batches of them, and its model on a device."""

    model: Any

    def stepper(self, adversary: Options, *, alone: bool = False) -> Stepper:
        """Builds our training step on the shared model, in one adversarial mode. ``alone``: without other ranks."""
        optimizer = build_optimizer(self.model, self.config.optimizer)
        tasks = {self.task.name: self.task}
        keep_freed_memory()
        return Stepper(
            parallel=Parallel(self.model, alone=alone),
            tasks=tasks,
            adversaries=build_adversaries(adversary, tasks),
            optimizer=optimizer,
            schedule=build_schedule(optimizer, self.config.schedule, 1_000_000),
            clip_norm=self.config.train.clip_norm,
            precision=self.config.train.precision,
            scaler=loss_scaler(self.config.train.precision, self.device),
            figures_every_steps=figures_every_steps(self.config, self.device),
            word_rows="word_gradients" in self.config.train.fast_paths,
        )

    def seconds(self, stepper: Stepper, chunk: Sequence[Any], *, shared: bool = False) -> float:
        """Makes one update per batch of the chunk. Returns the seconds that this takes, with collation.

        ``shared``: each rank takes its part of every batch, not the complete batch.
        """
        return self.spent(stepper, chunk, shared=shared).wall

    def spent(self, stepper: Stepper, chunk: Sequence[Any], *, shared: bool = False) -> Spent:
        """As ``seconds``, with the seconds of the processor too."""
        start = now()
        for number, rows in enumerate(chunk):
            seed_step(self.config.seed, number)
            (seed,) = batch_seeds(self.config.seed, number, 1)
            if shared:
                batch = local_batch(self.split, MicroBatch(self.task.name, rows), seed)
            else:
                share = Share.undivided(len(rows), seed)
                batch = collate(self.split, rows, task=self.task.name, share=share)
            stepper([batch.to(self.device)], number)
        self.synchronize()
        return since(start)


def build_rows(config: RunConfig, command: str) -> BenchRows:
    """Reads the rows of the task of a configuration. Error messages begin with ``command``.

    Raises:
        UserError: the configuration does not choose exactly one task, or the task has too few training rows.
    """
    tasks = build_tasks(config)
    if len(tasks.trained) != 1:
        raise UserError(f"{command}: choose one task, for example 'tasks=[{next(iter(tasks.trained))}]'")
    (name, task), device = next(iter(tasks.trained.items())), choose_device(config.device)
    check_precision(config.train.precision, device)
    tokenizer = build_tokenizer(config)
    splits, problems = build_splits(config, [(task, "train")], tokenizer)
    if problems:
        raise UserError(problems[0])
    split = splits[name, "train"]
    check_labels(config, {name: split})
    plan = [next(part.rows for part in update) for update in build_plan(config, {name: len(split)}).epoch(0)]
    size = config.train.batch_sizes.get(name, config.train.batch_size)
    full = [rows for rows in plan if len(rows) == size]
    if not full:
        raise UserError(f"{command}: {name}: has {len(split)} training rows; choose a smaller batch than {size}")
    return BenchRows(config, tokenizer, tasks, split, full, device)


def build_workload(config: RunConfig, command: str) -> Workload:
    """Builds the model and the batches of the task of a configuration. Raises what ``build_rows`` raises."""
    return with_model(build_rows(config, command))


def with_model(rows: BenchRows) -> Workload:
    """Builds the model beside the rows."""
    model = with_memory_options(build_model(rows.config, rows.tasks, rows.tokenizer), rows.config.train)
    parts = {field.name: getattr(rows, field.name) for field in fields(rows)}
    return Workload(**parts, model=model.to(rows.device).train())


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
