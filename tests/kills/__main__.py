"""Kills runs at random points by signals, and checks after each kill what a run promises.

    python -m tests.kills --kills 300 --seed 1

The signals SIGKILL, SIGTERM, SIGHUP and SIGINT go to one process, to all of them, or to the process group, of runs with
one process, of two (DDP), and of two with split weights (FSDP). Half come while a checkpoint is written. After each

- exit code 0 means that the run has finished or saved, and with every other one at most the updates since the last
  checkpoint are lost;
- every file is whole, and the files of the user in the run folder are byte for byte as they were;
- the next start of the same command goes on. It ends with the weights, log, predictions and table of a run that nothing
  has disturbed, or it is killed as well.

Prints a line for each kill. The first broken promise ends the command with exit code 1, and leaves the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from resource import RLIM_INFINITY
from typing import Any

import torch

from tests.cuts import CORRECT, cut
from tests.kills.promise import EVERY_STEPS, check_complete, check_exit, check_foreign, check_same, outcome, plant
from tests.kills.starts import Failure, Start, get_ready
from tests.workspace import make_workspace

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TARGETS = ("one", "all", "group")
OPTIONS = ["tasks=[same]", "train.epochs=3", "adversary.mode=tat", "log.every_steps=1", "distributed.timeout_s=60"]
OPTIONS += [f"checkpoint.every_steps={EVERY_STEPS}", "evaluation.every_steps=9"]
UPDATES = 18  # of a run with these options
REAL = 0.15  # share of starts that are not forked
SETTINGS = {
    "1 process": ["--gpus", "1"],
    "2 processes": ["--gpus", "2"],
    "2 processes with fsdp": ["--gpus", "2", "distributed.strategy=fsdp"],
}


class Kills:
    """Kills runs in the subfolders of ``folder``. ``rng`` decides about everything."""

    def __init__(self, folder: Path, rng: random.Random, real: float) -> None:
        self.folder, self.rng, self.real = folder, rng, real
        self.undisturbed: dict[str, dict[str, Any]] = {}  # by setting
        self.seconds: dict[tuple[str, bool], float] = {}  # of an undisturbed run, by setting and reality
        self.counts: Counter[str] = Counter()

    def start(self, run: Path, setting: str, *, real: bool) -> Start:
        arguments = ["train", str(self.folder / "run.yml"), f"output={run}", *OPTIONS, *SETTINGS[setting]]
        return Start(arguments, run.with_suffix(".log"), real)

    def measure(self, setting: str, *, real: bool) -> float:
        """The seconds of an undisturbed run. The first one is what others are compared with."""
        if (setting, real) not in self.seconds:
            run, began = self.folder / f"undisturbed{len(self.seconds)}", time.monotonic()
            start = self.start(run, setting, real=real)
            start.end()
            self.seconds[setting, real] = time.monotonic() - began
            found = outcome(start, run)
            check_same(found, self.undisturbed.setdefault(setting, found), start.log)
        return self.seconds[setting, real]

    def run(self, number: int, most: int) -> None:
        """Starts a run, kills it up to ``most`` times, lets it end, and compares it with an undisturbed one."""
        run, setting, kills, step = self.folder / f"run{number:04d}", self.rng.choice(list(SETTINGS)), 0, 0
        plant(run)
        while True:
            real = self.rng.random() < self.real
            longest = self.measure(setting, real=real)
            start = self.start(run, setting, real=real)
            if kills == most or not self.moment(start, run, longest):
                break
            saving, aimed = _saving(start, run), self.kill(start)
            start.end()
            kills += 1
            ended, step = check_exit(start, run), check_complete(run, step)
            check_foreign(run)
            where, kind = "while saving" if saving else f"at update {step}", "real" if real else "forked"
            self.counts.update(("kills", aimed, setting, f"exit {start.code}", kind, ended))
            told = f"{aimed} {where}, {setting}, {kind}: exit {start.code}, {ended}"
            print(f"{self.counts['kills']:3d} run {number}: {told}", flush=True)
        start.end()
        check_same(outcome(start, run), self.undisturbed[setting], start.log)
        check_foreign(run)
        shutil.rmtree(run)

    def moment(self, start: Start, run: Path, longest: float) -> bool:
        """Waits for a random time, or for a random update. Then, in half of the cases, for the next save.

        Returns whether the run is still going on.
        """
        aims_at_save, at_any_time, began = self.rng.random() < 0.5, self.rng.random() < 0.3, time.monotonic()
        delay, update, further = (
            self.rng.uniform(0, longest),
            self.rng.randint(_updates(run), UPDATES),
            self.rng.uniform(0, 0.03),
        )
        while start.alive() and (time.monotonic() - began < delay if at_any_time else _updates(run) < update):
            time.sleep(0.002)
        while start.alive() and aims_at_save and not _saving(start, run):
            time.sleep(0.0005)
        time.sleep(further)
        return start.alive()

    def kill(self, start: Start) -> str:
        """Sends a random signal to a random target. Returns the names of both."""
        number, target = self.rng.choice(SIGNALS), self.rng.choice(TARGETS)
        chosen = self.rng.random()
        processes = start.processes()
        with contextlib.suppress(ProcessLookupError):  # a process may have ended meanwhile
            if target == "group":
                os.killpg(start.pid, number)
            elif target == "one":
                os.kill(processes[int(chosen * len(processes))], number)
            for pid in processes if target == "all" else ():
                os.kill(pid, number)
        return f"{number.name} to {target}"


def _updates(run: Path) -> int:
    """How many updates the run has logged."""
    log = run / "metrics.jsonl"
    return log.read_bytes().count(b'"train"') if log.exists() else 0


def _saving(start: Start, run: Path) -> bool:
    """Whether this start is writing a checkpoint. What an earlier kill has left there does not count."""
    with contextlib.suppress(OSError):  # it may be renamed meanwhile
        return any(path.stat().st_mtime > start.began for path in run.glob("checkpoints/.step-00*.tmp"))
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=float, default=REAL, help="share of starts with imports, as a user starts them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    get_ready()
    folder = Path(tempfile.mkdtemp(prefix="kills_"))
    # In a copy of this process, which must not start threads.
    assert cut(lambda: make_workspace(folder), RLIM_INFINITY, killed=False) == CORRECT
    kills = Kills(folder, random.Random(options.seed), options.real)
    number = 0
    try:
        while (left := options.kills - kills.counts["kills"]) > 0:
            number += 1
            kills.run(number, min(left, kills.rng.choice((1, 1, 2))))
    except Failure as failure:
        print(f"run {number}: {failure}\nafter {kills.counts['kills']} kills; everything is in {folder}", flush=True)
        return 1
    shutil.rmtree(folder)
    print(", ".join(f"{count} {name}" for name, count in sorted(kills.counts.items()) if name != "kills"))
    print(f"{kills.counts['kills']} kills of {number} runs: every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
