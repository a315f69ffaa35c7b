"""Kills training at random points and resumes it, until so many kills were survived.

python experiments/distributed/kill_points.py --kills 200 --seed 1

Runs of one process, of two (DDP) and of two with split weights (FSDP) take turns. Half of the kills come at any time
from the start to the last prediction, half while a checkpoint is being written. After each kill every file in the run
folder has to be complete, and the same command has to continue the run. The finished run has to equal an undisturbed
one bit for bit. The first failure ends the command with exit code 1 and leaves the folder for inspection.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from tqdm import tqdm

from data_utils.task_def import load_task_defs
from mt_dnn.cli.train import train_here
from mt_dnn.runs.config_file import load_config

SETTINGS = {"one process": (1, "ddp"), "two processes, DDP": (2, "ddp"), "two processes, FSDP": (2, "fsdp")}
OPTIONS = ["adversary.mode=tat", "checkpoint.every_steps=3", "evaluation.every_steps=12", "distributed.timeout_s=60"]
TIMINGS = ("examples_per_s", "tokens_per_s")
PATIENCE_S = 120  # for processes that should end by themselves


@dataclass
class Attempt:
    """The processes of one start of the training command, forked from this one, where torch is imported already."""

    folder: Path
    world_size: int
    strategy: str
    pids: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    started: float = 0.0

    def start(self, run_file: Path, log: Path) -> None:
        with socket.socket() as server:
            server.bind(("localhost", 0))
            port = server.getsockname()[1]
        self.started = time.time()
        options = [*OPTIONS, f"output={self.folder}", f"distributed.strategy={self.strategy}"]
        for rank in range(self.world_size):
            pid = os.fork()
            if pid == 0:
                self._child(rank, port, run_file, options, log)
            self.pids.append(pid)

    def _child(self, rank: int, port: int, run_file: Path, options: list[str], log: Path) -> None:
        code = 1
        try:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(self.world_size)}
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = train_here(run_file, options)
        except BaseException as error:
            print(f"rank {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def alive(self) -> bool:
        """Whether no process has ended; notes the exit codes of those that have."""
        for pid in list(self.pids):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self.pids.remove(pid)
                self.codes.append(os.waitstatus_to_exitcode(status))
        return not self.codes

    def saving(self) -> bool:
        """Whether this attempt is writing a checkpoint. What an earlier kill has left there does not count."""
        with contextlib.suppress(OSError):  # it may be renamed meanwhile
            return any(path.stat().st_mtime > self.started for path in self.folder.glob("checkpoints/.step-*.tmp"))
        return False

    def kill(self, number: int) -> None:
        """Sends SIGKILL to one of the processes, and waits until the others have noticed and ended."""
        os.kill(self.pids[number % len(self.pids)], signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Waits for all processes."""
        deadline = time.monotonic() + PATIENCE_S
        while self.pids and time.monotonic() < deadline:
            self.alive()
            time.sleep(0.002)
        if self.pids:
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)
            raise Failure(f"{self.folder}: a process was still there {PATIENCE_S} s after another one had died")


class Failure(Exception):
    """A kill did harm."""


def check_complete(folder: Path) -> str:
    """Returns how far the run had come. Raises Failure when a file in its folder is damaged."""
    checkpoints = sorted((folder / "checkpoints").glob("step-*")) if folder.exists() else []
    try:
        for checkpoint in checkpoints:
            files = sorted(checkpoint.rglob("*.safetensors"))
            if len(files) < 3:
                raise Failure(f"{checkpoint}: holds {len(files)} files of tensors")
            for file in files:
                with safe_open(file, framework="pt") as tensors:
                    for name in tensors.keys():  # noqa: SIM118, no mapping
                        tensors.get_tensor(name)
            json.loads((checkpoint / "trainer" / "state.json").read_text())
            load_config(checkpoint / "config.yml")
            load_task_defs(checkpoint / "task_defs.yml")
        if (folder / "best").is_symlink() and not (folder / "best" / "heads.safetensors").exists():
            raise Failure(f"{folder}/best points at nothing")
        for name in ("config.yml", "task_defs.yml"):
            if (folder / name).exists() and not isinstance(yaml.safe_load((folder / name).read_text()), dict):
                raise Failure(f"{folder}/{name}: cut off")
        if (folder / "metrics.jsonl").exists():
            *complete, _ = (folder / "metrics.jsonl").read_text().split("\n")  # the last line may be cut off
            _ = [json.loads(line) for line in complete]
        for file in [*folder.glob("summary.json"), *folder.glob("adversary/*.json")]:
            json.loads(file.read_text())
        for file in folder.glob("predictions/*.jsonl"):
            _ = [json.loads(line) for line in file.read_text().splitlines()]
    except Failure:
        raise
    except Exception as error:
        raise Failure(f"{folder}: {type(error).__name__}: {error}") from error
    if (folder / "summary.json").exists():
        return "after the summary"
    if (folder / "predictions").exists():
        return "while predictions were written"
    return "between two checkpoints" if checkpoints else "before the first checkpoint"


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a finished run leaves behind, without the figures that depend on the clock."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = max((folder / "checkpoints").glob("step-*"))
    tensors = {}
    for file in sorted(last.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118, no mapping
                tensors[f"{file.relative_to(last)}:{name}"] = opened.get_tensor(name)
    return {
        "metrics": [{key: value for key, value in record.items() if key not in TIMINGS} for record in records],
        "summary": json.loads((folder / "summary.json").read_text()),
        "predictions": {path.name: path.read_text() for path in (folder / "predictions").iterdir()},
        "tallies": {path.name: path.read_text() for path in (folder / "adversary").iterdir()},
        "tensors": tensors,
    }


def check_same(folder: Path, undisturbed: dict[str, Any]) -> None:
    found = outcome(folder)
    tensors, expected = found.pop("tensors"), dict(undisturbed)
    wanted = expected.pop("tensors")
    different = [key for key in expected if found[key] != expected[key]]
    if tensors.keys() != wanted.keys() or any(not tensors[name].equal(wanted[name]) for name in wanted):
        different.append("tensors")
    if different:
        raise Failure(f"{folder}: {', '.join(different)} differ from those of an undisturbed run")


def wait_for_the_moment(attempt: Attempt, rng: random.Random, longest: float) -> bool:
    """Waits for a random moment. Returns whether the run was still going on then."""
    aim_at_save, start, delay = rng.random() < 0.5, time.monotonic(), rng.uniform(0, longest)
    while time.monotonic() - start < delay and attempt.alive():
        time.sleep(0.002)
    if aim_at_save:
        while attempt.alive() and not attempt.saving():
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.05))
    return attempt.alive()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder, rng = Path(tempfile.mkdtemp(prefix="kill_points_")), random.Random(options.seed)
    command = "from pathlib import Path; from tests.workspace import make_workspace; import sys"
    make = f"{command}; make_workspace(Path(sys.argv[1]), train_rows=41)"
    subprocess.run([sys.executable, "-c", make, str(folder)], check=True)  # this process must not start threads
    run_file, log = folder / "run.yml", folder / "log.txt"
    undisturbed, seconds = {}, {}
    for number, (name, (world_size, strategy)) in enumerate(SETTINGS.items()):
        attempt, started = Attempt(folder / f"undisturbed{number}", world_size, strategy), time.monotonic()
        attempt.start(run_file, log)
        attempt.end()
        if any(attempt.codes):
            raise SystemExit(f"{log}: the undisturbed run failed")
        seconds[name], undisturbed[name] = time.monotonic() - started, outcome(attempt.folder)
    points: Counter[str] = Counter()
    finished = dict.fromkeys(SETTINGS, 0)
    try:
        with tqdm(None, "kills", options.kills, unit="kill") as bar:
            for name in itertools.cycle(SETTINGS):
                if sum(points.values()) == options.kills:
                    break
                label = f"{list(SETTINGS).index(name)}-{finished[name]:03d}"
                attempt = Attempt(folder / f"killed{label}", *SETTINGS[name])
                attempt.start(run_file, log)
                if wait_for_the_moment(attempt, rng, seconds[name]):
                    attempt.kill(rng.randrange(2))
                    saving, reached = attempt.saving(), check_complete(attempt.folder)
                    points[f"{name}: {'while a checkpoint was written' if saving else reached}"] += 1
                    bar.update()
                    continue
                attempt.end()
                if any(attempt.codes):
                    raise Failure(f"{attempt.folder}: did not go on after a kill; see {log}")
                check_same(attempt.folder, undisturbed[name])
                finished[name] += 1
    except Failure as failure:
        print(f"after {sum(points.values())} kills: {failure}", file=sys.stderr)
        return 1
    for point, count in sorted(points.items()):
        print(f"{count:4d}  {point}")
    runs = ", ".join(f"{count} of {name}" for name, count in finished.items())
    print(f"{sum(points.values())} kills survived; runs that finished as if nothing had happened: {runs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
