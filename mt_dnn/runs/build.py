"""From a configuration to single parts of a run: tasks, tokenizer, prepared splits, plan, model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from data_utils.errors import MissingRows, UserError, shortened, tell
from data_utils.features import load_tokenizer
from data_utils.kept import unkept_notice
from data_utils.prepare import missing_notice, prepare_all
from data_utils.prepared import Prepared
from data_utils.rows import find_rows, read_rows
from data_utils.set_aside import CARVED, HELD_OUT, sampled, set_aside
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.adversarial.modes import options_of, prepare_model
from mt_dnn.batches.plan import Plan
from mt_dnn.distributed.ranks import is_main, say
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.memory import compile_blocks, fuse_layer_norms, recompute_activations
from mt_dnn.runs.build_encoder import build_encoder
from mt_dnn.runs.checkpoint import load_rest
from mt_dnn.runs.config import RunConfig, TrainConfig
from mt_dnn.runs.damaged import of_checkpoint
from mt_dnn.runs.initial import read_initial
from mt_dnn.runs.outputs import Passes
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks, check_heads, evaluated_tasks, training_tasks
from mt_dnn.threads import watch_neighbours
from mt_dnn.training.precision import lacks_units


def build_tasks(config: RunConfig) -> Tasks:
    """The tasks that a run trains and evaluates, as its task file defines them.

    Raises:
        UserError: the task file is wrong, or a training task is not in it.
    """
    defs = load_task_defs(config.task_defs)
    trained = training_tasks(defs, config.tasks, str(config.task_defs))
    return Tasks(trained, evaluated_tasks(defs, trained))


def build_tokenizer(config: RunConfig, checkpoint: Path | None = None) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a checkpoint. Without a checkpoint, loads the tokenizer that the configuration names."""
    if checkpoint is not None:
        with of_checkpoint(checkpoint / "encoder"):
            return load_tokenizer(str(checkpoint / "encoder"))
    name = config.encoder.tokenizer or config.encoder.name
    assert name is not None  # RunConfig guarantees one of them
    return load_tokenizer(name, config.encoder.revision if config.encoder.tokenizer is None else None)


def build_splits(
    config: RunConfig, wanted: Iterable[tuple[TaskDef, str]], tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[tuple[str, str], Prepared], list[str]]:
    """Reads rows as token ids.

    Returns:
        The prepared splits by (task, split), and notices: one line about all files of rows that do not exist, and one
        for each test split whose labels are placeholders.

    Raises:
        UserError: a file has a wrong row, or the key ``tasks`` names a task without training rows.
    """
    wanted = list(wanted)
    splits, problems = prepare_all(
        wanted,
        data_dir=config.data.dir,
        cache_dir=config.data.cache_dir,
        tokenizer=tokenizer,
        max_length=config.data.max_length,
        stride=config.data.stride,
        max_train_rows=config.data.max_rows and config.data.max_rows + (config.data.held_out or 0),
        sample=config.data.sample,
    )
    for (task, split), problem in problems.items():
        if not isinstance(problem, MissingRows) or (split == "train" and task in (config.tasks or ())):
            raise problem
    if config.data.carve is not None or config.data.held_out is not None:
        splits = dict(_with_rows_set_aside(config, splits, {task.name: task for task, _ in wanted}))
    if config.data.max_eval_rows is not None:
        trained_on = ("train", CARVED, HELD_OUT)
        splits = {
            key: split if key[1] in trained_on else sampled(split, config.data.max_eval_rows)
            for key, split in splits.items()
        }
    notices = [prepared.manifest["notice"] for prepared in splits.values() if "notice" in prepared.manifest]
    return splits, [*missing_notice(config.data.dir, wanted, problems), *unkept_notice(splits.values()), *notices]


def _with_rows_set_aside(
    config: RunConfig, splits: Mapping[tuple[str, str], Prepared], tasks: Mapping[str, TaskDef]
) -> Iterator[tuple[tuple[str, str], Prepared]]:
    """Yields all splits. Those of the rows that ``data.carve`` and ``data.held_out`` set aside follow their task's."""
    max_rows, carve = config.data.max_rows, config.data.carve
    for (task, name), split in splits.items():
        if name != "train":
            yield (task, name), split
            continue
        source = find_rows(config.data.dir, tasks[task], name)
        rows = read_rows(source, tasks[task], max_rows=split.manifest["max_rows"], sample=config.data.sample)
        for part, taken in set_aside(split, rows, max_rows=max_rows, carve=carve).items():
            yield (task, part), taken


def tasks_with_rows(tasks: Tasks, splits: Mapping[tuple[str, str], Prepared], config: RunConfig) -> Tasks:
    """Drops training tasks without training rows, and evaluated tasks that read the head of a dropped task.

    Raises:
        UserError: no task has training rows, or a task trains the head of a task without training rows.
    """
    trained = {name: task for name, task in tasks.trained.items() if (name, "train") in splits}
    if not trained:
        raise UserError(f"{config.data.dir}: no training rows for any of {', '.join(tasks.trained)}")
    check_heads(trained, str(config.data.dir))
    return Tasks(trained, evaluated_tasks(tasks.evaluated, trained))


def check_labels(config: RunConfig, train_splits: Mapping[str, Prepared]) -> None:
    """Checks the training rows without labels. ``train_splits``: the training rows by task.

    Raises:
        UserError: they have no soft labels either, soft labels are not the whole loss, or an adversary reads labels.
    """
    for name, split in train_splits.items():
        if split.labels is not None:
            continue
        source = split.manifest["source"]
        if split.soft is None:
            raise UserError(f"{source}: has no labels, so no task can be trained on it")
        if config.distillation.weight < 1:
            raise UserError(
                f"{source}: has no labels, only soft ones; set distillation.weight=1, which trains on soft labels alone"
            )
        if options_of(config.adversary, name).mode == "tat":
            raise UserError(f"{source}: has no labels, and tat needs the right answers; use vat, or label the rows")


def build_plan(config: RunConfig, sizes: Mapping[str, int]) -> Plan:
    """Builds the plan of the updates. ``sizes``: how many training rows each task has."""
    return Plan(
        sizes=sizes,
        batch_sizes={name: config.train.batch_sizes.get(name, config.train.batch_size) for name in sizes},
        sampling=config.sampling,
        accumulate=config.train.accumulate,
        mix_tasks=config.train.mix_tasks,
        seed=config.seed,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
    )


def figures_every_steps(config: RunConfig, device: torch.device) -> int:
    """Updates between two that give figures of the adversary. A GPU gives them only where they are logged."""
    return 1 if device.type == "cpu" else config.log.every_steps


def build_passes(config: RunConfig, device: torch.device, *, shown: bool = False) -> Passes:
    """How rows go through the model of a run in evaluation. ``shown``: whether the user sees a bar."""
    # On a CPU larger tensors are slower: their memory is given back and cleared again for each of them.
    default_tokens = 2048 if device.type == "cpu" else 16384
    return Passes(
        max_tokens=config.evaluation.batch_tokens or default_tokens,
        max_rows=config.evaluation.batch_size,
        precision=config.train.precision,
        device=device,
        shown=shown,
    )


def build_model(
    config: RunConfig, tasks: Tasks, tokenizer: PreTrainedTokenizerBase, checkpoint: Path | None = None
) -> Model:
    """Builds a new model as configured, or loads the model of a checkpoint.

    Raises:
        UserError: encoder and tokenizer do not belong together, ``data.max_length`` is more than the encoder's
            positions, or the encoder's checksum is wrong.
    """
    torch.manual_seed(config.seed)  # new weights are drawn in the order of the lines below
    initial = None
    if checkpoint is None and config.train.init_from is not None:
        initial = read_initial(config.train.init_from)
        initial.check_tokenizer(tokenizer)
    encoder = build_encoder(config, tokenizer, checkpoint, initial)
    model = Model(encoder, tasks.trained, tasks.evaluated, config.heads)
    prepare_model(config.adversary, model, tasks.trained)
    loaded = set(model.heads) if checkpoint is not None else set[str]()
    if checkpoint is not None:
        load_rest(model, checkpoint)
    elif initial is not None and config.train.init_heads:
        loaded = initial.load_heads(model, tasks.trained)
    for name, head in model.heads.items():
        load_head = KINDS[tasks.trained[name].task_type].pretrained
        if load_head is not None:
            _prepare_lm_head(config, name, load_head, head, encoder, new=name not in loaded)
    return model


def _prepare_lm_head(
    config: RunConfig,
    task: str,
    load_head: Callable[[str, str | None, Any, nn.Module], bool],
    head: nn.Module,
    encoder: Encoder,
    *,
    new: bool,
) -> None:
    """Gives a new head the weights of the pretrained language model's head, if the encoder's folder has them.

    Raises:
        UserError: the word embeddings are split over ranks.
    """
    if config.distributed.strategy == "fsdp":
        raise UserError(f"distributed.strategy: fsdp splits the word embeddings that {task} shares; use ddp")
    source = config.encoder.name if config.train.init_from is None else None
    if new and (source is None or not load_head(source, config.encoder.revision, encoder.model.config, head)):
        say(f"{task}: the encoder has no pretrained head of a masked language model; a new one is trained")


def with_memory_options(model: Model, options: TrainConfig) -> Model:
    """Changes the model as ``train`` asks, to save memory or time, and returns it. Its results stay the same.

    Raises:
        UserError: ``apex_layer_norm`` is set and apex is not installed.
    """
    if options.apex_layer_norm:
        fuse_layer_norms(model.encoder)
    if options.compile:
        compile_blocks(model.encoder)
    if options.activation_checkpointing:
        recompute_activations(model.encoder)
    model.encoder.draws_masks = "dropout" in options.fast_paths
    model.encoder.shortens_last_block = "last_block" in options.fast_paths
    model.encoder.joins_sequences = "attention" in options.fast_paths
    return model


def choose_device(name: str) -> torch.device:
    """The device of this name. ``auto`` means the GPU if this machine has one, else the CPU.

    On a CPU, idle threads sleep from now on while other processes need the cores.

    Raises:
        UserError: this machine does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error).splitlines()[0])
        raise UserError(
            f"device: '{shortened(name)}' is not available here ({reason}); device=auto, or --device auto, takes what "
            "there is"
        ) from None
    if device.type == "cuda":  # cuDNN's attention makes a plan for each shape, and no two batches have the same
        torch.backends.cuda.enable_cudnn_sdp(False)
    if device.type == "cpu":
        watch_neighbours(torch.get_num_threads())
    return device


def check_precision(precision: str, device: torch.device, setting: str = "train.precision") -> None:
    """Checks that the device has a number type. ``setting``: what the user has set to it.

    A processor without units for 16-bit numbers gets a notice. It runs them, so that a run for a GPU can be tried.

    Raises:
        UserError: the device does not have it.
    """
    if precision == "tf32" and device.type == "cpu":
        raise UserError(f"{setting}: tf32 is a number type of GPUs, and the device is the CPU; use fp32")
    if lacks_units(precision, device) and is_main():
        notice = f"{setting}: {precision} is slower than fp32 here, as this processor has no units for it; use fp32"
        tell(notice)
