"""Settings that a run would not read, or cannot follow, given its tasks and rows.

A setting that another setting makes useless is refused. If only the choice of tasks makes it useless, the user gets a
notice, because one run file serves several choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_utils.encoder_names import PACKAGE
from data_utils.errors import UserError, did_you_mean
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.adversarial.base import Options, Regularized
from mt_dnn.adversarial.modes import ADVERSARIES, options_of
from mt_dnn.adversarial.r3f import R3F, R3FOptions
from mt_dnn.adversarial.tat import TATOptions
from mt_dnn.adversarial.vat import VirtualOptions
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.evaluate import Splits, check_selection
from mt_dnn.section import Section
from mt_dnn.tasks.run_tasks import Tasks

SMALLEST_IN_16_BITS = 1e-3  # a first layer rounds inputs near 1 to 2⁻⁸ (bf16) or 2⁻¹¹ (fp16)
WINDOWED = ("word_classes", "spans")  # answers of tasks whose long texts are cut into windows
NOT_POOLED = (*WINDOWED, "tokens")  # answers whose heads read tokens instead of the pooled state


def check_settings(
    config: RunConfig, tasks: Tasks, train_splits: Mapping[str, Prepared], scored: Splits, *, total_steps: int
) -> list[str]:
    """Checks the settings of a new run. Returns a line for each setting that has no effect with its tasks.

    Args:
        train_splits: the training rows by task.
        scored: the labelled dev splits.
        total_steps: updates of the whole run.

    Raises:
        UserError: a setting does not fit the tasks and rows, or the run would not read it.
    """
    scored_tasks = {name: tasks.trained[name] for name, _ in scored if name in tasks.trained}
    check_soft_labels(config, tasks.trained, train_splits)
    check_selection(config.evaluation.metric, scored_tasks)
    if config.evaluation.patience is not None and not scored_tasks:
        raise UserError(
            "evaluation.patience: no training task has a labelled dev split to compare models on; "
            "add one, or leave patience out"
        )
    for name in config.train.batch_sizes:
        if name not in tasks.trained:
            raise UserError(f"train.batch_sizes: '{name}' is not a training task{did_you_mean(name, tasks.trained)}")
    for name in tasks.trained:
        options = options_of(config.adversary, name)
        if options.mode != "none" and options.warm_start_steps >= total_steps:
            raise UserError(
                f"adversary.warm_start_steps: {options.warm_start_steps}, but the run has {total_steps} updates, so "
                f"{name} would never be trained with {options.mode}; lower it"
            )
    _refuse_useless(config)
    unscored = [] if scored_tasks else ["no training task has a labelled dev split, so the last model is kept"]
    return [*unscored, *_unread(config, tasks, train_splits), *_too_small(config, tasks.trained)]


class Rule(NamedTuple):
    """The setting ``key`` of a section is useless unless ``read`` is true, and why.

    ``group``: where the section is in the run file.
    """

    group: str
    section: Section
    key: str
    read: bool
    why: str

    @property
    def useless(self) -> bool:
        """The setting is not at its default, and nothing reads it."""
        return not self.read and changed(self.section, self.key)

    def __str__(self) -> str:
        return f"{self.group}.{self.key}: has no effect here, because {self.why}"


def changed(section: Section, key: str) -> bool:
    """Whether a setting is not at its default."""
    return bool(getattr(section, key) != type(section).model_fields[key].get_default(call_default_factory=True))


def _refuse_useless(config: RunConfig) -> None:
    """Raises UserError for a setting that another setting makes useless."""
    train, optimizer, encoder = config.train, config.optimizer, config.encoder
    around, off = optimizer.lookahead, "optimizer.lookahead.enabled is false"
    for rule in (
        Rule("train", train, "mix_tasks", train.accumulate > 1, "train.accumulate is 1"),
        Rule("optimizer", optimizer, "no_decay", optimizer.weight_decay > 0, "optimizer.weight_decay is 0"),
        Rule("optimizer.lookahead", around, "steps", around.enabled, off),
        Rule("optimizer.lookahead", around, "alpha", around.enabled, off),
        Rule("encoder", encoder, "sha256", encoder.name is not None, "encoder.config makes new weights"),
        Rule("encoder", encoder, "sha256", train.init_from is None, "the weights come from train.init_from"),
        Rule("encoder", encoder, "revision", not on_disk(encoder.name), "encoder.name is no name on the hub"),
        Rule("adversary", config.adversary, "warm_start_steps", config.adversary.mode != "none", "mode is none"),
    ):
        if rule.useless:
            raise UserError(f"{rule}; leave it out")


def on_disk(name: str | None) -> bool:
    """Whether the name of an encoder is that of a folder or of a package."""
    return name is not None and (name.startswith(PACKAGE) or Path(name).expanduser().is_dir())


def _unread(config: RunConfig, tasks: Tasks, train_splits: Mapping[str, Prepared]) -> Iterator[str]:
    """Yields a line for each setting that has no effect with these tasks.

    ``train_splits``: the training rows by task.
    """
    options = {name: options_of(config.adversary, name) for name in tasks.trained}
    yield from (str(rule) for rule in _rules_of_tasks(config, tasks, options.values()) if rule.useless)
    if config.encoder.revision is not None and config.train.init_from is not None:  # it still names the tokenizer
        yield "encoder.revision: says nothing of the weights here, because they come from train.init_from"
    yield from _unread_by_adversary(options, tasks.trained)
    for task in tasks.evaluated.values():
        yield from _unread_by_task(task)
    for split in train_splits.values():
        if split.soft is not None and not config.distillation.weight:
            yield f"{split.manifest['source']}: its soft labels are not used; set distillation.weight to use them"


def _rules_of_tasks(config: RunConfig, tasks: Tasks, options: Iterable[Options]) -> list[Rule]:
    """Rules about settings that only some tasks read. ``options``: the settings of the adversary of each task."""
    heads = [task for task in tasks.trained.values() if task.head is None]
    san = any(task.enable_san for task in heads), "no trained task has enable_san"
    several = len(tasks.trained) > 1, "the run trains one task"
    pooled = any(task.type.answer not in NOT_POOLED and not task.enable_san for task in heads)
    of_tokens = any(task.type.answer in (*WINDOWED, "tokens") for task in heads)
    pooled |= config.encoder.pooler == "family" and of_tokens  # ModernBERT
    windows = any(task.type.answer in WINDOWED for task in tasks.evaluated.values())
    dropout = any(task.dropout is None and task.type.answer != "tokens" for task in heads)
    shared_size = set(tasks.trained) > config.train.batch_sizes.keys()
    regularized = any(issubclass(ADVERSARIES[settings.mode], Regularized) for settings in options)
    return [
        Rule("heads", config.heads, "san_steps", *san),
        Rule("heads", config.heads, "san_prediction_dropout", *san),
        Rule("heads", config.heads, "dropout", dropout, "no head of the run reads it"),
        Rule("data", config.data, "stride", windows, "no task has texts that are cut into windows"),
        Rule("encoder", config.encoder, "pooler", pooled, "no head reads a pooled state"),
        Rule("sampling", config.sampling, "strategy", *several),
        Rule("train", config.train, "mix_tasks", *several),
        Rule("train", config.train, "batch_size", shared_size, "train.batch_sizes has every task"),
        Rule("log", config.log, "dropout_floor_every_steps", regularized, "no mode of the run has a regulariser"),
    ]


def _too_small(config: RunConfig, trained: Mapping[str, TaskDef]) -> Iterator[str]:
    """Yields a line for each perturbation that is so small that 16-bit numbers round it away."""
    if config.train.precision not in ("bf16", "fp16"):
        return
    for name, task in trained.items():
        settings: Any = options_of(config.adversary, name)
        if task.type.answer == "number" and issubclass(ADVERSARIES[settings.mode], R3F):
            continue  # it has no regulariser, see _unread_by_adversary
        key = "epsilon" if isinstance(settings, R3FOptions) else "radius"
        size = getattr(settings, key, None) if isinstance(settings, (R3FOptions, VirtualOptions)) else None
        if size is not None and size < SMALLEST_IN_16_BITS:
            yield (
                f"adversary.{key}: {size:g} is so small for {name} that rounding in {config.train.precision} changes "
                "states more; use train.precision=fp32, or a larger one"
            )


def _unread_by_adversary(options: Mapping[str, Options], trained: Mapping[str, TaskDef]) -> Iterator[str]:
    """Yields lines about settings of the adversary that single tasks do not read. ``options``: by training task."""
    for name, settings in options.items():
        task, numbers = trained[name], trained[name].type.answer == "number"
        if numbers and issubclass(ADVERSARIES[settings.mode], R3F):
            yield f"adversary.mode: {settings.mode} has no regulariser for numbers, so {name} is trained without one"
        elif numbers and "divergence" in type(settings).model_fields and changed(settings, "divergence"):
            yield f"adversary.divergence: has no effect on {name}, whose divergence is always mse"
        classes = task.type.answer in ("class", "word_classes")
        if isinstance(settings, TATOptions) and settings.tally == "soft" and not classes:
            yield f"adversary.tally: soft has no effect on {name}, whose answers are not classes"


def _unread_by_task(task: TaskDef) -> Iterator[str]:
    """Yields lines about keys of a task definition that the task does not read."""
    rules = {
        "dropout": (task.dropout is not None and task.type.answer == "tokens", "its head has no dropout"),
        "loss_weight": (task.loss_weight != 1 and not task.trainable, "it has no train split"),
        "lr_scale": (task.lr_scale != 1 and not task.trainable, "it has no train split"),
        "constant_test_labels": (
            task.constant_test_labels and not any("test" in split for split in task.splits),
            "it has no test split",
        ),
    }
    for key, (found, why) in rules.items():
        if found:
            yield f"{task.name}: {key} has no effect, because {why}"


def check_soft_labels(config: RunConfig, tasks: Mapping[str, TaskDef], train_splits: Mapping[str, Prepared]) -> None:
    """Raises UserError when ``distillation`` needs soft labels but the rows have none, or its temperature is unused."""
    options = config.distillation
    kinds = {tasks[name].type.answer for name, split in train_splits.items() if split.soft is not None}
    if options.weight and not kinds:
        raise UserError(
            f"{config.data.dir}: distillation.weight is {options.weight:g}, but no training rows have a soft_label; "
            "write them with mt-dnn distill, or leave distillation.weight out"
        )
    if options.temperature != 1 and kinds == {"number"}:
        raise UserError("distillation.temperature: soft labels of regression tasks have no temperature; leave it out")
