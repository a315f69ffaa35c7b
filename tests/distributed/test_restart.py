"""What launched processes do: a lost worker, another number of ranks, two machines, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mt_dnn.batches.collate import share_of_rank
from mt_dnn.batches.plan import Plan
from mt_dnn.runs.checkpoints import last_checkpoint
from tests import forks
from tests.distributed.workers import free_port, run_torchrun
from tests.end_to_end.test_resume import assert_same_run, finish, wait_for_step
from tests.forks import Command, Process
from tests.workspace import make_workspace

ROWS = 25  # with the batch size of 8 the last batch of an epoch has one row
OPTIONS = ["tasks=[same,overlap]", "checkpoint.every_steps=3", "evaluation.every_steps=24", "train.epochs=4"]
OPTIONS += ["adversary.mode=tat", "distributed.timeout_s=60"]
SHORT = ["train.epochs=3"]
FSDP = [*SHORT, "distributed.strategy=fsdp", "adversary=preset:vat/smart"]  # averaged weights are split too
NO_DROPOUT = ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0"]


def start(folder: Path, output: str, *arguments: str) -> Process:
    return forks.start(*train(folder, output), *arguments, OMP_NUM_THREADS="1")


def train(folder: Path, output: str) -> list[str]:
    return ["train", str(folder / "run.yml"), f"output={folder / output}", *OPTIONS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restart")
    make_workspace(folder, train_rows=ROWS)
    finish(start(folder, "whole", *SHORT, "--gpus", "2"))
    finish(start(folder, "whole_fsdp", *FSDP, "--gpus", "2"))
    return folder


def workers(launcher: Process) -> list[int]:
    """Process ids of the launcher's workers."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def weights(run: Path) -> dict[str, np.ndarray]:
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    found = {**load_file(checkpoint / "encoder/model.safetensors"), **load_file(checkpoint / "heads.safetensors")}
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize(("whole", "options"), [("whole", SHORT), ("whole_fsdp", FSDP)])
def test_a_killed_worker_is_started_again_and_nothing_is_lost(folder: Path, whole: str, options: list[str]) -> None:
    process = start(folder, f"{whole}_killed", *options, "--gpus", "2", "--restarts", "1")
    wait_for_step(folder / f"{whole}_killed", process, 6)
    os.kill(workers(process)[-1], signal.SIGKILL)
    assert "resuming" in finish(process)
    assert_same_run(folder / whole, folder / f"{whole}_killed")


@pytest.mark.parametrize(
    ("before", "after", "stop"),
    [
        ("ddp-2", "ddp-1", signal.SIGTERM),
        ("ddp-1", "ddp-3", signal.SIGUSR1),
        ("fsdp-2", "ddp-1", signal.SIGUSR1),
        ("ddp-1", "fsdp-2", signal.SIGTERM),
    ],
)
def test_a_signal_saves_and_another_number_of_ranks_goes_on(
    folder: Path, before: str, after: str, stop: signal.Signals
) -> None:
    first, then = (
        [f"distributed.strategy={strategy}", "--gpus", ranks, *NO_DROPOUT]
        for strategy, ranks in (before.split("-"), after.split("-"))
    )
    process = start(folder, f"{before}to{after}", *first)
    wait_for_step(folder / f"{before}to{after}", process, 4)
    process.send_signal(stop)
    assert "the same command continues" in finish(process)
    assert "resuming" in finish(start(folder, f"{before}to{after}", *then))
    if not (folder / "alone").exists():
        finish(start(folder, "alone", *NO_DROPOUT))
    alone, moved = weights(folder / "alone"), weights(folder / f"{before}to{after}")
    assert max(np.abs(alone[name] - moved[name]).max() for name in alone) < 1e-4
    tallies = [sorted((folder / run / "adversary").iterdir()) for run in ("alone", f"{before}to{after}")]
    assert [path.name for path in tallies[0]] == [path.name for path in tallies[1]]
    totals = [np.sum(json.loads(path.read_text())["counts"]) for path in tallies[1]]
    assert totals == [ROWS] * len(totals)  # every row of each epoch once, over all ranks


def test_two_machines_train_one_job(folder: Path) -> None:
    options = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=localhost", f"--master-port={free_port()}"]
    command = ["-m", "mt_dnn.cli", *train(folder, "nodes"), *SHORT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    agents = [
        Command([*options, f"--node-rank={rank}", *command], environment, run=run_torchrun) for rank in ("0", "1")
    ]
    for agent in agents:
        finish(agent)
    assert_same_run(folder / "whole", folder / "nodes")


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    batch=st.integers(1, 9),
    seed=st.integers(0, 5),
    ranks=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    cut=st.floats(0, 1),
)
def test_every_row_once_when_the_number_of_ranks_changes(
    sizes: list[int], batch: int, seed: int, ranks: tuple[int, int], cut: float
) -> None:
    tasks = {f"t{i}": size for i, size in enumerate(sizes)}
    plan = list(Plan(sizes=tasks, batch_sizes=dict.fromkeys(tasks, batch), seed=seed, epochs=2).epoch(0))
    stop, served = round(cut * len(plan)), []
    for updates, world_size in ((plan[:stop], ranks[0]), (plan[stop:], ranks[1])):
        for part in (part for update in updates for part in update):
            lengths = (part.rows * 7) % 13
            for rank in range(world_size):
                share = share_of_rank(lengths, rank, world_size, 1)
                served += [(part.task, part.rows[place]) for place in share.positions if share.counts]
    assert sorted(served) == sorted((task, row) for task, size in tasks.items() for row in range(size))


def test_bad_input_is_said_once_with_exit_code_2(folder: Path) -> None:
    process = start(folder, "bad", "--gpus", "2", "tasks=[same,nothing]")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 2 and output == ""
    assert errors.count("no task 'nothing'") == 1
    assert not (folder / "bad").exists()
