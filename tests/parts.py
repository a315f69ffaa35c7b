"""The parts of a run without a run folder, for tests that train or evaluate a few steps by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_utils.prepared import Prepared
from mt_dnn.adversarial.average import build_average
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.batches.plan import Plan
from mt_dnn.runs.build import (
    build_model,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    choose_device,
    with_data,
)
from mt_dnn.runs.config_file import load_config
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks
from mt_dnn.training.balance import build_balance
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel, distribute
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper
from mt_dnn.training.surgery import build_surgery


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run consists of, except for its folder."""

    device: torch.device
    tasks: Tasks
    tokenizer: Any
    train_splits: dict[str, Prepared]
    plan: Plan
    model: Model
    stepper: Stepper


def parts(workspace: Path, *options: str) -> Parts:
    """Builds them from the workspace's run file and these ``key=value`` options. Nothing is written."""
    config = load_config(workspace / "run.yml", options)
    device, tokenizer = choose_device(config.device), build_tokenizer(config)
    splits, _ = build_splits(config, build_tasks(config).splits, tokenizer)
    tasks = with_data(build_tasks(config), splits, config)
    train_splits = {name: splits[name, "train"] for name in tasks.trained}
    plan = build_plan(config, {name: len(split) for name, split in train_splits.items()})
    model = build_model(config, tasks, tokenizer)
    adversaries = build_adversaries(config.adversary, tasks.trained)
    warmup_steps = round(config.schedule.warmup_fraction * plan.total_steps)
    average = build_average(model, adversaries.values(), warmup_steps)
    optimizer = build_optimizer(distribute(model, device), config.optimizer)
    stepper = Stepper(
        parallel=Parallel(model),
        tasks=tasks.trained,
        adversaries=adversaries,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, plan.total_steps),
        clip_norm=config.train.clip_norm,
        precision=config.train.precision,
        average=average,
        balance=build_balance(config.train.loss_balance, config.train.balance_lr, tasks.trained, train_splits, device),
        surgery=build_surgery(config.train.gradient_surgery, adversaries),
        dropout_floor_every_steps=config.log.dropout_floor_every_steps,
        distillation=config.distillation,
    )
    return Parts(
        device=device,
        tasks=tasks,
        tokenizer=tokenizer,
        train_splits=train_splits,
        plan=plan,
        model=model,
        stepper=stepper,
    )
