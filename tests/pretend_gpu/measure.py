"""Runs the cases and counts. Import this file only in a process of its own, as device.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch

from data_utils.prepared import Prepared
from mt_dnn.adversarial.modes import build_adversaries
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import local_batch
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.runs.build import build_model, build_splits, build_tasks, build_tokenizer
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.outputs import Passes, row_outputs
from mt_dnn.runs.start import build_stepper
from mt_dnn.tasks.kinds import KINDS
from mt_dnn.tasks.model import Model
from mt_dnn.training.optimizers import build_optimizer
from mt_dnn.training.schedules import build_schedule
from mt_dnn.training.step import Stepper
from tests.pretend_gpu.cases import LISTED, SETTINGS, TASKS, Case
from tests.pretend_gpu.device import DEVICE, Recorder, move, pretend_device
from tests.tiny import tiny_encoder
from tests.workspace import MORE_TASKS, make_workspace

SHAPES: Mapping[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 1},
    "base": {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "max_position_embeddings": 512, "vocab_size": 30522,
    },
}  # fmt: skip
COMMON = (
    "optimizer.lookahead.enabled=false", "log.dropout_floor_every_steps=null", "log.every_steps=1", "device=cpu",
    "train.batch_size=8",
)  # fmt: skip
Figures = dict[str, Any]


class Workshop:
    """A folder with rows of all tasks and an encoder, and models that are built from them."""

    def __init__(self, folder: Path, shape: Mapping[str, Any]) -> None:
        self.run_file = make_workspace(folder, train_rows=16, more=list(MORE_TASKS), soft=True)
        tiny_encoder(folder / "encoder", **shape)
        self.splits: dict[str, Prepared] = {}

    def config(self, tasks: Sequence[str], overrides: Sequence[str]) -> RunConfig:
        return load_config(self.run_file, [f"tasks=[{','.join(tasks)}]", *COMMON, *overrides])

    def build(self, config: RunConfig) -> tuple[Model, Any]:
        """A model with real weights, and the tasks."""
        tasks, tokenizer = build_tasks(config), build_tokenizer(config)
        wanted = [(task, "train") for task in tasks.trained.values() if task.name not in self.splits]
        prepared, _ = build_splits(config, wanted, tokenizer)
        self.splits |= {name: split for (name, _), split in prepared.items()}
        model = build_model(config, tasks, tokenizer)
        model.fit_units(tasks.trained, {name: self.splits[name] for name in tasks.trained})
        return model.train(), tasks

    def batch(self, task: str) -> Batch:
        return local_batch(self.splits[task], MicroBatch(task, torch.arange(8).numpy()), 1)

    def stepper(self, config: RunConfig, model: Model, tasks: Any) -> Stepper:
        splits = {name: self.splits[name] for name in tasks.trained}
        return build_stepper(config, model, tasks.trained, splits, total_steps=100, device=DEVICE)


def grid_figures(workshop: Workshop, cases: Sequence[Case]) -> Iterator[tuple[str, Figures]]:
    """Yields the name and the figures of each case. Cases with the mode r4f have a model of their own."""
    for changes_head in (False, True):
        chosen = [case for case in cases if (case.mode == "r4f") == changes_head]
        if not chosen:
            continue
        config = workshop.config(TASKS, [f"adversary.mode={'r4f' if changes_head else 'none'}"])
        model, tasks = workshop.build(config)
        with pretend_device(LISTED) as recorder:
            stepper = workshop.stepper(config, model, tasks)
            steppers = {name: with_optimizer(stepper, config, name) for name in {case.optimizer for case in chosen}}
            for case in chosen:
                layers = ["adversary.max_layer=1"] if case.mode == "rapt" else []
                options = workshop.config([case.task], [f"adversary.mode={case.mode}", *layers]).adversary
                adversaries = build_adversaries(options, {case.task: tasks.trained[case.task]})
                step = replace(steppers[case.optimizer], adversaries=adversaries)
                yield case.name, figures_of(recorder, step, [workshop.batch(case.task)])


def with_optimizer(stepper: Stepper, config: RunConfig, name: str) -> Stepper:
    """The stepper with another optimizer, which has made one step, so that it has its state."""
    optimizer_config = config.optimizer.model_copy(update={"name": name})
    optimizer = build_optimizer(stepper.model, optimizer_config)
    for parameter in stepper.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter in stepper.model.parameters():
        parameter.grad = None
    return replace(stepper, optimizer=optimizer, schedule=build_schedule(optimizer, config.schedule, 100))


def figures_of(recorder: Recorder, stepper: Stepper, batches: Sequence[Batch]) -> Figures:
    """The figures of one update, with the copies of its batches."""
    return counted(recorder, lambda: stepper([batch.to(DEVICE) for batch in batches]))


def counted(recorder: Recorder, run: Callable[[], Any]) -> Figures:
    """What the device gets when ``run`` is called, or the fault that ended it."""
    recorder.reset()
    try:
        run()
    except Exception as error:
        where = [frame for frame in extract_tb(error.__traceback__) if "/mt_dnn/" in frame.filename]
        line = f", at {Path(where[-1].filename).name}:{where[-1].lineno}" if where else ""
        return {"fault": f"{type(error).__name__}: {str(error).splitlines()[0]}{line}"}
    return recorder.figures()


def setting_figures(workshop: Workshop, name: str) -> Figures:
    """The figures of the second update with a setting. In the first one optimizers make their state."""
    setting = SETTINGS[name]
    config = workshop.config(setting.tasks, setting.overrides)
    model, tasks = workshop.build(config)
    with pretend_device(LISTED) as recorder:
        stepper = workshop.stepper(config, model, tasks)
        batches = [workshop.batch(task) for task in setting.tasks]
        first = figures_of(recorder, stepper, batches)
        return first if "fault" in first else figures_of(recorder, stepper, batches)


def evaluation_figures(workshop: Workshop) -> Iterator[tuple[str, Figures]]:
    """The figures of predicting the rows of each task, in two batches."""
    model, tasks = workshop.build(workshop.config(TASKS, []))
    passes = Passes(max_tokens=4096, max_rows=8, precision="fp32", device=DEVICE)
    with pretend_device(LISTED) as recorder:
        move(model)
        for name in TASKS:
            kept = KINDS[tasks.trained[name].task_type].decoding.condensed
            run = partial(row_outputs, model, name, workshop.splits[name], kept, passes)
            yield f"evaluation {name}", counted(recorder, run)
