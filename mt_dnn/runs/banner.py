"""What a run is, a few lines for people before its first update."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from mt_dnn.adversarial.base import Options
from mt_dnn.adversarial.modes import options_of
from mt_dnn.adversarial.presets import preset_names, read_preset
from mt_dnn.distributed.ranks import world_size
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.start import Parts

MOST_TASKS = 8  # more tasks than these are only counted


def banner(config: RunConfig, parts: Parts) -> str:
    """The encoder, where it trains, tasks with their rows, updates, adversary, optimizer and run folder of a run."""
    facts = {
        "encoder": _encoder(config, parts),
        "device": _device(config, parts),
        "updates": _updates(config, parts),
        "adversary": _adversaries(config, parts),
        "optimizer": _optimizer(config),
        "output": str(config.output),
    }
    described = list(facts.items())
    described[2:2] = [("task", text) for text in _tasks(parts)]
    width = max(len(name) for name, _ in described)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in described)


def _encoder(config: RunConfig, parts: Parts) -> str:
    encoder = parts.model.encoder
    millions = sum(weight.numel() for weight in encoder.parameters()) / 1e6
    origin = config.encoder.origin
    if config.train.init_from is not None:
        origin += f", weights of {config.train.init_from}"
    shape = f"{encoder.num_layers} blocks of {encoder.hidden_size}, {millions:.3g} million parameters"
    if config.adapter.kind != "none":
        trained = sum(weight.numel() for weight in encoder.parameters() if weight.requires_grad) / 1e6
        shape += f", of which {config.adapter.kind} trains {trained:.3g} million"
    return f"{origin} ({encoder.model.config.model_type}: {shape}; pooler: {config.encoder.pooler})"


def _device(config: RunConfig, parts: Parts) -> str:
    device = parts.device
    if device.type == "cuda":
        where = f"{device} ({torch.cuda.get_device_name(device)})"
    else:
        missing = " (no GPU was found)" if config.device == "auto" and device.type == "cpu" else ""
        where = f"{device}{missing}, {counted(torch.get_num_threads(), 'thread')}"
    processes = f", {world_size()} processes ({config.distributed.strategy})" if world_size() > 1 else ""
    return f"{where}, {config.train.precision}{processes}"


def _tasks(parts: Parts) -> Iterator[str]:
    names = list(parts.tasks.evaluated)
    for name in names[:MOST_TASKS]:
        sizes = [f"{split} {len(rows):,}" for (task, split), rows in parts.splits.items() if task == name]
        trained = f", batches of {parts.plan.batch_sizes[name]}" if name in parts.tasks.trained else ", not trained"
        yield f"{name}: {', '.join(sizes)} rows{trained}" if sizes else f"{name}: no rows"
    if len(names) > MOST_TASKS:
        yield f"{len(names) - MOST_TASKS} more tasks"


def _updates(config: RunConfig, parts: Parts) -> str:
    every = config.evaluation.every_steps
    if not parts.dev_splits:
        scored = "no labelled dev rows, so the last model is kept"
    else:
        chosen = f"best model by {config.evaluation.metric}" if config.evaluation.metric else "last model kept"
        when = "each epoch" if every is None else f"every {counted(every, 'update')}"
        scored = f"dev scores after {when}, {chosen}"
    most = "at most " if config.evaluation.patience is not None else ""
    length = (
        "train.max_steps" if parts.plan.total_steps == config.train.max_steps else counted(parts.plan.epochs, "epoch")
    )
    return f"{most}{parts.plan.total_steps:,} ({length}); {scored}"


def _adversaries(config: RunConfig, parts: Parts) -> str:
    """The mode of all tasks. If tasks differ, each mode with its tasks."""
    by_mode: dict[str, list[str]] = {}
    for name in parts.tasks.trained:
        by_mode.setdefault(describe_mode(options_of(config.adversary, name)), []).append(name)
    if len(by_mode) == 1:
        return next(iter(by_mode))
    return "; ".join(f"{mode} for {', '.join(names)}" for mode, names in by_mode.items())


def describe_mode(options: Options) -> str:
    """A mode with its settings: of the preset that has exactly these, else those that differ from the defaults."""
    settings = options.model_dump(exclude={"tasks"})
    for name in preset_names():
        if name.split("/")[0] == options.mode:
            content = read_preset(name, "preset")
            if type(options)(**content).model_dump(exclude={"tasks"}) == settings:
                return f"{options.mode} (preset {name}: {_listed(settings, [key for key in content if key != 'mode'])})"
    changed = [
        name
        for name, field in type(options).model_fields.items()
        if name not in ("mode", "tasks") and getattr(options, name) != field.get_default(call_default_factory=True)
    ]
    return f"{options.mode} ({_listed(settings, changed)})" if changed else options.mode


def _listed(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """Settings by name, such as ``steps 1, radius 1e-05``. Those of a group are written ``bregman.mu 1``."""
    values: dict[str, Any] = {}
    for name in names:
        group = settings[name] if isinstance(settings[name], Mapping) else None
        values.update({name: settings[name]} if group is None else {f"{name}.{key}": group[key] for key in group})
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _optimizer(config: RunConfig) -> str:
    optimizer, schedule = config.optimizer, config.schedule
    lookahead = " with Lookahead" if optimizer.lookahead.enabled else ""
    shape = f"{schedule.name} schedule, warm-up {schedule.warmup_fraction:.0%}"
    return f"{optimizer.name}{lookahead}, lr {optimizer.lr:g}; {shape}"


def counted(number: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
