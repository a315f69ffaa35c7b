"""Builds all parts of a run from its configuration, and restores the last checkpoint if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from data_utils.old_mtdnn import loss_notices
from data_utils.prepared import Prepared
from data_utils.repeated import repeated_notices
from data_utils.task_def import TaskDef
from data_utils.vocabulary import check_unknown
from mt_dnn.adversarial.average import build_average
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.batches.plan import Plan
from mt_dnn.distributed.ranks import is_main, local_device, main_first
from mt_dnn.runs.build import (
    build_model,
    build_passes,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    check_labels,
    check_precision,
    choose_device,
    figures_every_steps,
    tasks_with_rows,
    with_memory_options,
)
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.evaluate import Decoder, Splits, dev_splits
from mt_dnn.runs.folder import check_same_config, check_same_tasks, check_unlocked
from mt_dnn.runs.more_updates import go_on
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.saving import forget_missing_best, resume, usable_checkpoint
from mt_dnn.runs.unread import check_settings
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks
from mt_dnn.training.balance import build_balance
from mt_dnn.training.memory import keep_freed_memory
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel, distribute
from mt_dnn.training.precision import loss_scaler
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper
from mt_dnn.training.surgery import build_surgery


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All parts of a run, ready for the next update.

    Args:
        device: where this process trains.
        tasks: the tasks that the run trains, and those it evaluates.
        tokenizer: the encoder's tokenizer; checkpoints hold a copy.
        splits: the rows of all evaluated tasks as token ids.
        train_splits: those among ``splits`` that the run trains on, by task.
        dev_splits: those among ``splits`` that are labelled and scored during training.
        plan: which rows each update reads.
        model: encoder and heads, on the device.
        stepper: makes an update of the model from batches.
        decoder: predicts splits with the model and keeps the predictions.
        progress: updates made, best score, figures since the last log line. The training loop changes it.
        notices: lines that the user should read before training starts.
    """

    device: torch.device
    tasks: Tasks
    tokenizer: PreTrainedTokenizerBase
    splits: Splits
    train_splits: dict[str, Prepared]
    dev_splits: Splits
    plan: Plan
    model: Model
    stepper: Stepper
    decoder: Decoder
    progress: Progress
    notices: list[str]


def start(config: RunConfig, *, shown: bool = True) -> Parts:
    """Builds the parts of a run. If its output folder holds a checkpoint that can go on, the run continues from there.

    Every rank has to call it. Only the cache of prepared rows is written. ``shown``: whether the user sees bars.

    Raises:
        UserError: something in the configuration, the data or the run folder does not fit.
    """
    # Check that no other process trains into the run folder, and that it holds no run of another configuration.
    main_first(lambda: check_unlocked(config.output) if is_main() else None)  # an error reaches all ranks
    check_same_config(config)
    device = choose_device(local_device(config.device))
    check_precision(config.train.precision, device)

    # Read the tasks of the task file. Load the tokenizer, from the checkpoint if there is one.
    tasks = build_tasks(config)
    checkpoint, again = usable_checkpoint(config.output)
    tokenizer = build_tokenizer(config, checkpoint)

    # Read rows as token ids. The main process prepares them, then the others find them in the cache.
    prepared, notices = main_first(lambda: build_splits(config, tasks.splits, tokenizer))
    tasks = tasks_with_rows(tasks, prepared, config)
    check_same_tasks(config.output, tasks.evaluated)
    splits = {key: split for key, split in prepared.items() if key[0] in tasks.evaluated}
    notices += [*loss_notices(config.task_defs, tasks.evaluated), *check_unknown(splits, config.data.max_unknown_share)]
    train_splits = {name: splits[name, "train"] for name in tasks.trained}
    check_labels(config, train_splits)
    scored = dev_splits(tasks.evaluated, splits)

    # Build the plan of the updates, the model, and the training step. New heads get the units of the training rows.
    plan = build_plan(config, {name: len(split) for name, split in train_splits.items()})
    if checkpoint is None:  # a run that continues was checked when it was new
        notices += [*again, *repeated_notices(splits)]
        notices += check_settings(config, tasks, train_splits, scored, total_steps=plan.total_steps)
    model = build_model(config, tasks, tokenizer, checkpoint)
    if checkpoint is None:
        model.fit_units(tasks.trained, train_splits)
    stepper = build_stepper(config, model, tasks.trained, train_splits, total_steps=plan.total_steps, device=device)

    # The run begins, or continues after its last checkpoint. ``resume`` refuses rows that differ from its rows.
    progress = Progress(data={f"{task}/{name}": split.manifest["hash"] for (task, name), split in splits.items()})
    if checkpoint is not None:
        changed = resume(checkpoint, stepper, progress)
        more = go_on(config, checkpoint, plan, stepper, progress)
        resumed = f"resuming {config.output} after update {progress.position.step} of {plan.total_steps}"
        notices += [*more, resumed, *changed, *forget_missing_best(config.output, progress)]
    return Parts(
        device=device,
        tasks=tasks,
        tokenizer=tokenizer,
        splits=splits,
        train_splits=train_splits,
        dev_splits=scored,
        plan=plan,
        model=model,
        stepper=stepper,
        decoder=build_decoder(config, model, tasks, device, shown=shown),
        progress=progress,
        notices=notices,
    )


def build_decoder(
    config: RunConfig, model: Model, tasks: Tasks, device: torch.device, *, shown: bool = True
) -> Decoder:
    """Builds what predicts and scores splits while the run trains, and at its end."""
    passes = build_passes(config, device, shown=shown)
    return Decoder(model, tasks.evaluated, passes)


def build_stepper(
    config: RunConfig,
    model: Model,
    tasks: Mapping[str, TaskDef],
    train_splits: Mapping[str, Prepared],
    *,
    total_steps: int,
    device: torch.device,
) -> Stepper:
    """Builds the training step. Changes the model in place: moves it to the device and, with ``fsdp``, splits it.

    Args:
        tasks: the training tasks.
        train_splits: their training rows, which the balance of losses reads.
        total_steps: updates of the whole run, which the schedule needs.

    Raises:
        UserError: settings of the adversary, optimizer, balance or surgery do not fit the tasks.
    """
    strategy = config.distributed.strategy
    adversaries = build_adversaries(config.adversary, tasks)
    # Copy the model for the average before ``distribute``, which may split the weights over ranks. In the warm-up the
    # average uses ``beta``, then ``beta_after_warmup``.
    warmup_steps = round(config.schedule.warmup_fraction * total_steps)
    average = build_average(model, adversaries.values(), warmup_steps)
    if average is not None:
        distribute(average.model, device, strategy)
    # Build the optimizer after ``distribute``, which may replace the parameters.
    distribute(with_memory_options(model, config.train), device, strategy)
    optimizer = build_optimizer(model, config.optimizer)
    keep_freed_memory()
    return Stepper(
        parallel=Parallel(model),
        tasks=tasks,
        adversaries=adversaries,
        average=average,
        balance=build_balance(config.train.loss_balance, config.train.balance_lr, tasks, train_splits, device),
        dropout_floor_every_steps=config.log.dropout_floor_every_steps,
        figures_every_steps=figures_every_steps(config, device),
        total_steps=total_steps,
        distillation=config.distillation,
        surgery=build_surgery(config.train.gradient_surgery, adversaries),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, total_steps),
        clip_norm=config.train.clip_norm,
        precision=config.train.precision,
        scaler=loss_scaler(config.train.precision, device),
        word_rows="word_gradients" in config.train.fast_paths,
    )
