"""Measures how cost grows: with rows, with the number of tasks and with the number of planned epochs. Needs no data.

The encoder is tiny, so that the work of this toolkit shows beside that of torch.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from tqdm import tqdm

from data_utils.errors import UserError, os_errors
from data_utils.files import replacing
from data_utils.text_table import markdown, table
from mt_dnn.batches.plan import Plan
from mt_dnn.bench.inference import build_subject
from mt_dnn.bench.pictures import Panel, drawing
from mt_dnn.bench.synthetic import write_run
from mt_dnn.bench.workload import machine
from mt_dnn.runs.build import build_splits, build_tasks, build_tokenizer
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.start import start
from mt_dnn.training.loop import Position, Step, train

TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=1", "hidden_size=24", "intermediate_size=48")]
OPTIONS = [*TINY, "device=cpu", "train.epochs=1", "train.batch_size=32"]
LENGTHS = "sst2"
ROWS = (1000, 2000, 4000, 8000, 16000, 32000)
TASKS = (1, 3, 10, 30, 100)
EPOCHS = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
STEPS = 10  # updates of each number of tasks in a round


def growth_command(output: Path | None, *, most_rows: int, most_tasks: int, rounds: int, as_json: bool) -> None:
    """Measures, prints a table or JSON, and writes scaling.json, scaling.svg and scaling.md into a folder.

    Raises:
        UserError: the limits leave fewer than two sizes to compare, or the folder cannot be written.
    """
    rows, tasks = ([size for size in sizes if size <= most] for sizes, most in ((ROWS, most_rows), (TASKS, most_tasks)))
    for option, sizes, known in (("--most-rows", rows, ROWS), ("--most-tasks", tasks, TASKS)):
        if len(sizes) < 2:
            raise UserError(f"{option}: give at least {known[1]}, so that there are two sizes to compare")
    result = {
        "rows": growth_of_rows(rows, rounds),
        "tasks": growth_of_tasks(tasks, rounds),
        "epochs": growth_of_epochs(rounds),
        "machine": machine(torch.device("cpu")),
    }
    if output is not None:
        options = (
            f"--output {shlex.quote(str(output))} --most-rows {most_rows} --most-tasks {most_tasks} --rounds {rounds}"
        )
        write_result(output, "scaling", result, panels(result), page(result, options))
    print(json.dumps(result) if as_json else summary(result))


def write_result(folder: Path, name: str, result: Mapping[str, Any], pictures: Sequence[Panel], text: str) -> None:
    """Writes a result as ``name`` with .json, .svg (the pictures) and .md (the text).

    Raises:
        UserError: the folder cannot be written.
    """
    with os_errors(folder, "cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"json": json.dumps(result, indent=1) + "\n", "svg": drawing(pictures), "md": text}
        for ending, content in contents.items():
            with replacing(folder / f"{name}.{ending}") as temporary:
                temporary.write_text(content, encoding="utf-8")


def cpu_seconds() -> float:
    """The processor time of this process and of its ended children. Other programs disturb it less than a clock."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def growth_of_rows(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Processor seconds of each command for these numbers of rows, the lowest over rounds, and their exponents."""
    seconds: dict[str, list[float]] = {name: [] for name in ("prepare", "train", "evaluate", "predict")}
    with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
        row_seconds(Path(folder) / "warm-up", sizes[0])
    for size in tqdm(sizes, "rows"):
        with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
            found = [row_seconds(Path(folder) / str(number), size) for number in range(rounds)]
        for name, values in seconds.items():
            values.append(round(min(each[name] for each in found), 4))
    return {"sizes": list(sizes), "cpu_seconds": seconds, "exponents": exponents(sizes, seconds)}


def row_seconds(folder: Path, rows: int) -> dict[str, float]:
    """Processor seconds that each command spends on made-up rows."""
    folder.mkdir()
    config = load_config(write_run(folder, shape="minilm", lengths=LENGTHS, rows=rows), OPTIONS)
    spent: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = cpu_seconds()
        result = work()
        spent[name] = cpu_seconds() - begun
        return result

    tokenizer = build_tokenizer(config)
    timed("prepare", lambda: build_splits(config, build_tasks(config).splits, tokenizer))
    parts = start(config)
    updates = train(parts.stepper, parts.train_splits, parts.plan, device=parts.device, start=Position())
    timed("train", lambda: sum(1 for _ in updates))
    subject = build_subject(folder, None, lengths=LENGTHS, rows=rows, overrides=OPTIONS)
    timed("evaluate", lambda: subject.model.decode(subject.task, subject.split))
    timed("predict", lambda: subject.model.predict(subject.task.name, subject.texts))
    return spent


def growth_of_tasks(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Processor milliseconds of an update for these numbers of tasks, the median over updates.

    All numbers of tasks take turns in every round.
    """
    milliseconds: dict[int, list[float]] = {size: [] for size in sizes}
    with TemporaryDirectory(prefix="mt-dnn-bench-") as folder:
        runs = {size: updates_of_tasks(Path(folder) / str(size), size, rounds + 1) for size in sizes}
        for number in tqdm(range(rounds + 1), "tasks"):
            for size, updates in runs.items():
                for _ in range(STEPS):
                    begun = cpu_seconds()
                    next(updates)
                    if number > 0:  # the first round warms up
                        milliseconds[size].append(1000 * (cpu_seconds() - begun))
    medians = [round(statistics.median(values), 2) for values in milliseconds.values()]
    return {"sizes": list(sizes), "cpu_ms_per_step": medians, "last_to_first": round(medians[-1] / medians[0], 3)}


def updates_of_tasks(folder: Path, tasks: int, rounds: int) -> Iterator[Step]:
    """Makes the updates of a run on copies of one task."""
    folder.mkdir()
    path = write_run(folder, shape="minilm", lengths=LENGTHS, rows=320)
    definition = yaml.safe_load((folder / "tasks.yml").read_text(encoding="utf-8"))[LENGTHS]
    names = [f"task{number}" for number in range(tasks)]
    (folder / "tasks.yml").write_text(yaml.safe_dump(dict.fromkeys(names, definition)), encoding="utf-8")
    rows = folder / "data" / f"{LENGTHS}_train.tsv"
    for name in names:
        (folder / "data" / f"{name}_train.tsv").write_bytes(rows.read_bytes())
    steps = STEPS * rounds
    parts = start(load_config(path, [*OPTIONS, f"train.epochs={steps}", f"train.max_steps={steps}"]))
    yield from train(parts.stepper, parts.train_splits, parts.plan, device=parts.device, start=Position())


def growth_of_epochs(rounds: int) -> dict[str, Any]:
    """Milliseconds until the 2 updates of a run are planned, for these numbers of epochs. The lowest over rounds."""
    milliseconds = []
    sizes = {f"task{number}": 10_000 for number in range(10)}
    for epochs in EPOCHS:
        found = []
        for seed in range(rounds + 1):  # the first round of an interpreter is slower
            begun = cpu_seconds()
            plan = Plan(sizes=sizes, batch_sizes=dict.fromkeys(sizes, 32), seed=seed, epochs=epochs, max_steps=2)
            assert plan.total_steps == 2
            list(islice(plan.epoch(0), 2))
            found.append(1000 * (cpu_seconds() - begun))
        milliseconds.append(round(min(found), 3))
    return {
        "sizes": list(EPOCHS),
        "cpu_ms": milliseconds,
        "last_to_first": round(milliseconds[-1] / milliseconds[0], 3),
    }


def exponents(sizes: Sequence[int], seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The slope of log seconds over log size: 1 is time linear in size, 2 quadratic."""
    return {name: round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 3) for name, values in seconds.items()}


def summary(result: Mapping[str, Any]) -> str:
    """The figures as a table."""
    rows = result["rows"]
    records = [
        (name, *(f"{value:.2f}" for value in values), f"{rows['exponents'][name]:.2f}")
        for name, values in rows["cpu_seconds"].items()
    ]
    parts = [table(("rows", *map(str, rows["sizes"]), "exponent"), records)]
    for name, unit in (("tasks", "cpu_ms_per_step"), ("epochs", "cpu_ms")):
        part = result[name]
        parts.append(table((name, *map(str, part["sizes"])), [(unit, *map(str, part[unit]))]))
    return "\n\n".join([*parts, ", ".join(f"{key} {value}" for key, value in result["machine"].items())])


def panels(result: Mapping[str, Any]) -> list[Panel]:
    """What the picture shows."""
    rows, tasks, epochs = (result[name] for name in ("rows", "tasks", "epochs"))
    return [
        Panel("rows", "processor seconds", rows["sizes"], rows["cpu_seconds"]),
        Panel("tasks", "processor ms per update", tasks["sizes"], {"update": tasks["cpu_ms_per_step"]}),
        Panel("epochs", "processor ms until planned", epochs["sizes"], {"plan": epochs["cpu_ms"]}),
    ]


PAGE = """# How cost grows

Made by `OMP_NUM_THREADS={threads} mt-dnn bench growth {options}`,
with made-up rows as long as those of SST-2 and an encoder of one block of 24 units, so that the work of this toolkit
shows beside that of torch. Figures are processor time, the lowest over rounds (for tasks
the median over updates). [scaling.json](scaling.json) holds them too.

{machine}.

![Cost over rows, tasks and epochs](scaling.svg)

**Rows.** Seconds for the training rows of one task. `train` makes one epoch in batches of 32. The exponent is the slope
of log time over log rows: 1 is linear, below 1 a fixed cost still counts.

{rows}

**Tasks.** Milliseconds of an update of 32 rows, by the number of training tasks.

{tasks}

**Epochs.** Milliseconds until the first 2 updates are planned of a run of 2 updates of 10 tasks with 10,000 rows each,
by `train.epochs`.

{epochs}
"""


def page(result: Mapping[str, Any], options: str) -> str:
    """The page scaling.md."""
    rows = result["rows"]
    records = [
        (f"`{name}`", *(f"{value:.2f}" for value in values), f"{rows['exponents'][name]:.2f}")
        for name, values in rows["cpu_seconds"].items()
    ]
    return PAGE.format(
        options=options,
        threads=result["machine"]["threads"],
        machine=", ".join(f"{key} {value}" for key, value in result["machine"].items()),
        rows=markdown(("rows", *rows["sizes"], "exponent"), records),
        tasks=markdown(("tasks", *result["tasks"]["sizes"]), [("ms", *result["tasks"]["cpu_ms_per_step"])]),
        epochs=markdown(("epochs", *result["epochs"]["sizes"]), [("ms", *result["epochs"]["cpu_ms"])]),
    )
