"""From a configuration to everything that a run needs, checked and ready for the next update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.average import build_average
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.batches.plan import Plan
from mt_dnn.distributed.ranks import is_main, local_device, main_first
from mt_dnn.runs.build import (
    build_model,
    build_plan,
    build_splits,
    build_tasks,
    build_tokenizer,
    check_soft_labels,
    choose_device,
    with_data,
    with_memory_options,
)
from mt_dnn.runs.checkpoint import last_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.evaluate import Decoder, check_selection, dev_splits
from mt_dnn.runs.folder import check_unlocked, same_config, same_tasks
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.saving import resume
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks
from mt_dnn.training.balance import build_balance
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.parallel import Parallel, distribute
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper
from mt_dnn.training.surgery import build_surgery

Splits = dict[tuple[str, str], Prepared]  # by task and name of the split


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run consists of.

    Args:
        device: where this process trains.
        tasks: the tasks that the run trains, and those it evaluates.
        tokenizer: the encoder's tokenizer; checkpoints hold a copy.
        splits: the rows of all evaluated tasks as token ids, by task and split.
        train_splits: the training rows, by task.
        dev_splits: the labelled splits that are scored during training, by task and split.
        plan: which rows each update reads.
        model: encoder and heads, on the device.
        stepper: makes an update of the model from batches.
        decoder: predictions of the model.
        progress: where the run stands; an update changes it.
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


def start(config: RunConfig) -> Parts:
    """Builds the parts of a run, new or as the last checkpoint in its output folder holds them; on all ranks.

    The output folder need not exist. Only the cache of prepared rows is written.

    Raises:
        UserError: something in the configuration, the data or the run folder does not fit.
    """
    # The run folder: no other process trains into it, and what it holds is a run of this configuration.
    main_first(lambda: check_unlocked(config.output) if is_main() else None)
    same_config(config)
    device = choose_device(local_device(config.device))

    # Tasks of the task file, and the tokenizer: the checkpoint's, if there is one.
    tasks = build_tasks(config)
    checkpoint = last_checkpoint(config.output)
    tokenizer = build_tokenizer(config, checkpoint)

    # Rows as token ids. The main process prepares them; the others then find them in the cache.
    prepared, notices = main_first(lambda: build_splits(config, tasks.splits, tokenizer))
    tasks = with_data(tasks, prepared, config)
    same_tasks(config.output, tasks.evaluated)
    splits = {key: split for key, split in prepared.items() if key[0] in tasks.evaluated}
    train_splits = {name: splits[name, "train"] for name in tasks.trained}
    check_soft_labels(config, tasks.trained, train_splits)

    # Splits that are scored while the run trains, and the metric that chooses the best model.
    scored = dev_splits(tasks.evaluated, splits)
    scored_tasks = {name: tasks.trained[name] for name, _ in scored if name in tasks.trained}
    check_selection(config.evaluation.metric, scored_tasks)

    # Which rows each update reads, the model, and what updates it.
    plan = build_plan(config, {name: len(split) for name, split in train_splits.items()})
    model = build_model(config, tasks, tokenizer, checkpoint)
    stepper = build_stepper(config, model, tasks.trained, train_splits, total_steps=plan.total_steps, device=device)
    decoder = Decoder(
        model, tasks.evaluated, batch_size=config.evaluation.batch_size, precision=config.train.precision, device=device
    )

    # Where the run stands: at its beginning, or where its last checkpoint was saved.
    progress = Progress(data={f"{task}/{name}": split.manifest["hash"] for (task, name), split in splits.items()})
    if checkpoint is not None:
        resume(checkpoint, stepper, progress)
        notices.append(f"resuming {config.output} after update {progress.position.step} of {plan.total_steps}")
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
        decoder=decoder,
        progress=progress,
        notices=notices,
    )


def build_stepper(
    config: RunConfig,
    model: Model,
    tasks: Mapping[str, TaskDef],
    train_splits: Mapping[str, Prepared],
    *,
    total_steps: int,
    device: torch.device,
) -> Stepper:
    """What makes updates of a model; moves the model to the device and, with ``fsdp``, splits it over the processes.

    ``tasks`` are the training tasks, ``total_steps`` the updates of the whole run, which the schedule needs.

    Raises:
        UserError: settings of the adversary, optimizer, balance or surgery that do not fit the tasks.
    """
    strategy, fp16 = config.distributed.strategy, config.train.precision == "fp16"
    adversaries = build_adversaries(config.adversary, tasks)
    # The average is a copy of the model, so it is made while the model is complete and on the CPU.
    average = build_average(model, adversaries.values(), round(config.schedule.warmup_fraction * total_steps))
    if average is not None:
        distribute(average.model, device, strategy)
    # An optimizer reads the parameters of its rank, so it is built after the model is distributed.
    distribute(with_memory_options(model, config.train), device, strategy)
    optimizer = build_optimizer(model, config.optimizer)
    return Stepper(
        parallel=Parallel(model),
        tasks=tasks,
        adversaries=adversaries,
        average=average,
        balance=build_balance(config.train.loss_balance, config.train.balance_lr, tasks, train_splits, device),
        dropout_floor_every_steps=config.log.dropout_floor_every_steps,
        distillation=config.distillation,
        surgery=build_surgery(config.train.gradient_surgery, adversaries),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, total_steps),
        clip_norm=config.train.clip_norm,
        precision=config.train.precision,
        scaler=torch.amp.GradScaler(device.type, enabled=fp16),
    )
