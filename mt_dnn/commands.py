"""What the commands do, behind the thin command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from data_utils.errors import UserError, did_you_mean, os_errors
from data_utils.features import load_tokenizer
from data_utils.prepare import Prepared, prepare, prepare_all
from data_utils.rows import TEXTS, WITH_CHOICES, write_rows
from data_utils.task_def import TaskDef, load_task_defs, task_def_schema
from mt_dnn.build import Tasks, build_model, build_splits, build_tokenizer, choose_device
from mt_dnn.checkpoint import find_checkpoint
from mt_dnn.config import RunConfig
from mt_dnn.config_file import load_config
from mt_dnn.distributed import is_main, launch, process_group, world_size
from mt_dnn.evaluate import predict_split, result
from mt_dnn.model import Model
from mt_dnn.predict import prediction_lines
from mt_dnn.report import score_table, table
from mt_dnn.run import Run
from mt_dnn.signals import PREEMPTION
from mt_dnn.tasks import evaluated_tasks, head_owner

# what a head is
HEAD_FIELDS = ("task_type", "data_format", "labels", "enable_san", "crf", "head", "value_range", "no_answer")


def prepare_command(
    task_defs: Path, *, data: Path, encoder: str, max_length: int, stride: int, cache: Path | None
) -> None:
    defs = load_task_defs(task_defs)
    splits, problems = prepare_all(
        [(task, split) for task in defs.values() for split in task.splits],
        data_dir=data,
        cache_dir=cache or data / "prepared",
        tokenizer=load_tokenizer(encoder),
        max_length=max_length,
        stride=stride,
    )
    rows = [prepared_row(name, split, prepared) for (name, split), prepared in splits.items()]
    print(table(("task", "split", "rows", "tokens", "mean", "longest", "truncated"), rows))
    for problem in problems.values():
        print(f"mt-dnn: {problem}", file=sys.stderr)
    if not splits:
        raise UserError(f"{data}: nothing to prepare for the tasks of {task_defs}")


def prepared_row(name: str, split: str, prepared: Prepared) -> tuple[str, ...]:
    lengths = prepared.lengths
    counts = (len(prepared.firsts), int(lengths.sum()), f"{lengths.mean():.1f}", int(lengths.max()))
    return (name, split, *map(str, counts), str(prepared.manifest["truncated"]))


def train_command(path: Path, overrides: Sequence[str]) -> int:
    config = load_config(path, overrides)
    with process_group(timeout_s=config.distributed.timeout_s):
        summary = Run(config)()
    if isinstance(summary, int):  # stopped by a signal; Ctrl-C is not a success
        return 0 if summary in PREEMPTION else 128 + summary
    if not is_main():
        return 0
    print(score_table(summary["results"]))
    print(f"\nrun folder: {config.output} (step {summary['selected_step']} of {summary['steps']} selected)")
    print(f"next: mt-dnn evaluate {config.output}")
    return 0


def launch_command(path: Path, overrides: Sequence[str], *, processes: int, restarts: int) -> int:
    """Trains in several processes on this machine; returns the exit code."""
    config = load_config(path, overrides)  # what is wrong with it is said once, before anything starts
    if world_size() > 1:
        raise UserError("--gpus: torchrun has started this process already; leave --gpus out")
    if config.device != "cpu" and torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UserError(f"--gpus {processes}: this machine has {torch.cuda.device_count()}")
    return launch(processes, ["train", str(path), *overrides], restarts=restarts)


def load_trained(path: Path, task_defs: Path | None = None) -> tuple[RunConfig, Tasks, Any, Model]:
    """Configuration, tasks, tokenizer and model of a trained run; ``task_defs`` may add tasks or score them otherwise.

    Raises:
        UserError: no checkpoint there, or a damaged one; ``task_defs`` that do not fit its heads.
    """
    checkpoint = find_checkpoint(path)
    config = load_config(checkpoint / "config.yml")
    own = load_task_defs(checkpoint / "task_defs.yml")
    trained = {name: task for name, task in own.items() if task.trainable}
    given = evaluated_tasks(load_task_defs(task_defs), trained) if task_defs else {}
    if task_defs:
        check_given(given, trained, task_defs)
    tasks = Tasks(trained, evaluated_tasks({**own, **given}, trained))
    tokenizer = build_tokenizer(config, checkpoint)
    model = build_model(config, tasks, tokenizer, checkpoint).to(choose_device(config.device))
    return config, tasks, tokenizer, model


def check_given(given: Mapping[str, TaskDef], trained: Mapping[str, TaskDef], place: Path) -> None:
    """Raises UserError when no task reads a head of the run, or one is defined so that its own head does not fit."""
    if not given:
        raise UserError(f"{place}: none of its tasks is one of the run ({', '.join(trained)}) or has the head of one")
    for name, task in given.items():
        for field in HEAD_FIELDS if name in trained else ():
            if getattr(task, field) != getattr(trained[name], field):
                raise UserError(
                    f"{place}: {name}: {field}: the run was trained with another; give what its task_defs.yml has"
                )


def predict_rows(loaded: tuple[RunConfig, Tasks, Any, Model], task: TaskDef, split: Prepared) -> Any:
    config, tasks, _, model = loaded
    return predict_split(
        model,
        task,
        tasks.trained[head_owner(task)],
        split,
        batch_size=config.evaluation.batch_size,
        precision=config.train.precision,
        device=next(model.parameters()).device,
    )


def evaluate_command(
    run: Path, *, split: str | None, task: str | None, data: Path | None, task_defs: Path | None, as_json: bool
) -> None:
    loaded = load_trained(run, task_defs)
    config, tasks, tokenizer, _ = loaded
    if data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"dir": data, "cache": None})})
    chosen = {task: known_task(task, tasks, run)} if task else tasks.evaluated
    wanted = [(t, s) for t in chosen.values() for s in t.splits if (s == split if split else s != "train")]
    if not wanted:
        raise UserError(f"--split {split}: none of the tasks {', '.join(chosen)} has such a split")
    splits, problems = build_splits(config, wanted, tokenizer)
    for problem in problems:
        print(f"mt-dnn: {problem}", file=sys.stderr)
    unlabelled = [prepared for prepared in splits.values() if prepared.labels is None]
    if unlabelled and split:
        source = unlabelled[0].manifest["source"]
        raise UserError(f"{source}: has no labels, so there is nothing to score; see predictions/ in the run folder")
    results = []
    for (name, split_name), prepared in splits.items():
        if prepared.labels is not None:
            definition = tasks.evaluated[name]
            decoded = predict_rows(loaded, definition, prepared)
            results.append(result(definition, split_name, prepared, decoded))
    if not results:
        raise UserError(f"{config.data.dir}: no labelled split of {', '.join(chosen)} to score")
    print(json.dumps(results) if as_json else score_table(results))


def known_task(name: str, tasks: Tasks, run: Path) -> TaskDef:
    """The task of this name, else a UserError that lists what the run knows."""
    if name not in tasks.evaluated:
        hint = did_you_mean(name, tasks.evaluated) or f" (known: {', '.join(tasks.evaluated)})"
        raise UserError(f"{run}: no task '{name}'{hint}")
    return tasks.evaluated[name]


def predict_command(run: Path, *, task: str, source: str, output: Path | None) -> None:
    loaded = load_trained(run)
    config, tasks, tokenizer, _ = loaded
    definition = known_task(task, tasks, run)
    rows = list(read_text(source, TEXTS[definition.data_format], more=definition.data_format in WITH_CHOICES))
    with TemporaryDirectory() as folder:
        name = f"{task}_test"
        write_rows(Path(folder) / f"{name}.tsv", rows, list(rows[0]))
        prepared = prepare(
            definition,
            "test",
            data_dir=Path(folder),
            cache_dir=Path(folder) / "prepared",
            tokenizer=tokenizer,
            max_length=config.data.max_length,
            stride=config.data.stride,
        )
        lines = [
            json.dumps(line, ensure_ascii=False)
            for line in prediction_lines(definition, prepared, predict_rows(loaded, definition, prepared))
        ]
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        print(text, end="")
    else:
        with os_errors(output, "cannot be written"):
            output.write_text(text, encoding="utf-8")


def read_text(source: str, columns: Sequence[str], *, more: bool) -> Any:
    """Rows from a file or stdin: one a line, as many tab-separated fields as the task has sentences, or ``more``."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not readable as UTF-8 text ({error})") from None
    if not text:
        raise UserError(f"{source}: empty; write one row a line")
    lines = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    widest = max(map(len, lines)) if more else len(columns)
    columns = [*columns, *(f"choice{number}" for number in range(len(columns), widest))]
    for number, fields in enumerate(lines, 1):
        if len(fields) != len(columns) and not (more and len(fields) > 2):
            raise UserError(f"{source}:{number}: {len(fields)} tab-separated fields, the task takes {len(columns)}")
        yield {
            "uid": str(number),
            "label": "",
            **dict.fromkeys(columns, ""),
            **dict(zip(columns, fields, strict=False)),
        }


def config_command(path: Path | None, overrides: Sequence[str], *, schema: bool) -> None:
    if schema:
        print(json.dumps(file_schema(), indent=1))
    elif path is None:
        raise UserError("config: give a run configuration, or --schema")
    else:
        print(yaml.safe_dump(load_config(path, overrides).model_dump(mode="json"), sort_keys=False), end="")


def file_schema() -> dict[str, Any]:
    """JSON Schema that fits run configurations and task definition files."""
    run = RunConfig.model_json_schema()
    parts = run.pop("$defs")
    choices = [{"$ref": "#/$defs/run"}, {"$ref": "#/$defs/tasks"}]
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, "anyOf": choices, "$defs": {**parts, "run": run, "tasks": task_def_schema()}}
