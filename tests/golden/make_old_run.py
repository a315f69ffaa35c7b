"""Makes tests/golden/old_run: two small runs by the code of an older checkout, and what they have to end with.

One run is finished. The other was stopped by SIGTERM in the middle of an epoch. All paths in their files are relative,
so that a copy of the folder works anywhere. ``expected.json`` holds what the older code makes of a copy: scores,
predictions and the figures of the second run after it was resumed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.golden.figures import kept
from tests.golden.runner import read_run
from tests.tiny import tiny_encoder
from tests.workspace import MORE_TASKS, TASK_DEFS, rows_of, write_task

FOLDER = Path(__file__).with_name("old_run")
FINISHED, INTERRUPTED = "runs/finished", "runs/interrupted"
TASKS = ("same", "overlap", "chained", "found")
SHAPE: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
}
# A run with as much state as possible: tallies, averaged weights, loss factors, slow weights, figures not yet logged.
CONFIG: dict[str, Any] = {
    "name": "old",
    "task_defs": "tasks.yml",
    "device": "cpu",
    "data": {"dir": "data", "max_length": 32},
    "encoder": {"name": "./encoder"},
    "train": {"epochs": 4, "batch_size": 4, "accumulate": 2, "mix_tasks": True, "loss_balance": "uncertainty"},
    "optimizer": {"lr": 2e-2, "weight_decay": 0.1, "eps": 1e-6},
    "evaluation": {"metric": "same", "every_steps": 8},
    "log": {"every_steps": 3, "dropout_floor_every_steps": 2},
    "adversary": {
        "mode": "tat",
        "tasks": {"chained": {"mode": "vat", "noise_std": 0.01, "bregman": {"beta": 0.5, "beta_after_warmup": 0.9}}},
    },
}
TEXTS = {  # to predict on, by task
    "overlap": "the cat sees a dog\tthe cat sees a dog\nthe old cat\tsmall red bird\n",
    "chained": "the cat sees a small dog\nnot red\n",
}
STOP_AFTER = 9  # updates; the run has 16


def make(checkout: Path) -> None:
    """Renews the folder with the code of a checkout.

    Raises:
        SystemExit: a command fails, or the second run ends before it is stopped.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_inputs(FOLDER)
    command(checkout, FOLDER, "train", "run.yml", f"output={FINISHED}")
    interrupt(checkout, FOLDER)
    for lock in FOLDER.rglob(".lock"):
        lock.unlink()
    with TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        shutil.copytree(FOLDER, copy, symlinks=True)
        expected = {"made_by": git_commit(checkout), **results(checkout, copy)}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def write_inputs(folder: Path) -> None:
    """Writes encoder, rows, task file, run file and texts to predict on."""
    (folder / "data").mkdir(parents=True)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        tiny_encoder(folder / "encoder", **SHAPE)
    for task in TASKS:
        write_task(folder / "data", task, "train", rows_of(task, 8, 1))
        write_task(folder / "data", task, "dev", rows_of(task, 12, 2))
    definitions = {name: {**TASK_DEFS, **MORE_TASKS}[name] | {"splits": ["train", "dev"]} for name in TASKS}
    (folder / "tasks.yml").write_text(yaml.safe_dump(definitions, sort_keys=False), encoding="utf-8")
    (folder / "run.yml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    for task, text in TEXTS.items():
        (folder / f"{task}.txt").write_text(text, encoding="utf-8")


def interrupt(checkout: Path, folder: Path) -> None:
    """Trains the second run and stops it after some updates, between two lines of its log."""
    process = start(checkout, folder, "train", "run.yml", f"output={INTERRUPTED}")
    log = folder / INTERRUPTED / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and f'"step": {STOP_AFTER},' in log.read_text()):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    finish(process)
    (checkpoint,) = (folder / INTERRUPTED / "checkpoints").glob(f"step-*{STOP_AFTER + 1}")
    state = json.loads((checkpoint / "trainer" / "state.json").read_text(encoding="utf-8"))
    if state["progress"]["finished"] or not state["progress"]["window"]["sums"]:
        raise SystemExit("the run was stopped too late; try again")


def results(checkout: Path, folder: Path) -> dict[str, Any]:
    """What the code of a checkout makes of both runs."""
    scores = command(checkout, folder, "evaluate", FINISHED, "--json")
    predictions = {
        task: command(checkout, folder, "predict", FINISHED, "--task", task, "--input", f"{task}.txt") for task in TEXTS
    }
    command(checkout, folder, "train", "run.yml", f"output={INTERRUPTED}")
    return {
        "scores": json.loads(scores),
        "predictions": {task: [json.loads(line) for line in text.splitlines()] for task, text in predictions.items()},
        "resumed": kept(read_run(folder / INTERRUPTED)),
    }


def start(checkout: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts ``mt-dnn ARGUMENTS`` in a folder, with the code of a checkout."""
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mt_dnn.cli", *arguments],
        cwd=folder,
        env={**os.environ, **offline, "PYTHONPATH": str(checkout.resolve())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Waits for a command; returns its output, or raises SystemExit with its errors."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{process.args!r}: exit code {process.returncode}\n{errors}")
    return output


def command(checkout: Path, folder: Path, *arguments: str) -> str:
    """Runs ``mt-dnn ARGUMENTS`` in a folder, with the code of a checkout; returns its output."""
    return finish(start(checkout, folder, *arguments))


def git_commit(checkout: Path) -> str:
    """The commit that is checked out there."""
    return subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True).strip()
