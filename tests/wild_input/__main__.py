"""Gives commands generated inputs, and checks how each of them ends.

    python -m tests.wild_input --examples 20000 --seed 1

The inputs are run files, task files, study files, overrides, rows in all formats, files of checkpoints and of prepared
rows, and settings of runs of one update: valid ones of which some parts are changed. Each command has to end in
success, or with exit code 2 and a message of at most 2,000 characters that a terminal can show; never in a traceback,
and never not at all.

Prints the number of inputs of each kind, and every fault with the folder that repeats it. Faults at the same line of
the code are one.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.wild_input.check import Case, problem
from tests.wild_input.ground import loaded_once, make_ground
from tests.wild_input.kinds import KINDS

MEMORY = Path("/dev/shm")


@dataclass
class Search:
    """Looks for faults. ``ground``: see ground.py. ``work``: where cases are written, and faults are kept."""

    ground: Path
    work: Path
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)  # where it is → how to repeat it

    def run(self, kind: str, examples: int) -> None:
        """Checks so many inputs of a kind."""
        make, _ = KINDS[kind]

        @seed(self.seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(make(self.ground))
        def check(case: Case) -> None:
            self.counts[kind] += 1
            found = problem(case, self.work / "case")
            if found and (place := f"{kind}: {found.split(': ')[0]}") not in self.faults:
                self.faults[place] = self.keep(case, found)

        check()

    def keep(self, case: Case, found: str) -> str:
        """Keeps the files of a case. Returns the fault and the command that repeats it."""
        folder = self.work / f"fault{len(self.faults)}"
        folder.mkdir()
        case.write(folder)
        command = shlex.join(["mt-dnn", *case.arguments])
        (folder / "command").write_text(f"{command}\n", encoding="utf-8", errors="backslashreplace")
        return f"{found}\n    cd {folder}; {command[:300]!a}"


def search(folder: Path, examples: int, number: int, kinds: list[str]) -> Search:
    """Checks inputs of these kinds, in their shares of ``examples``, but at least one of each."""
    (folder / "ground").mkdir()
    found = Search(make_ground(folder / "ground"), folder, number)
    total = sum(KINDS[kind][1] for kind in kinds)
    with loaded_once():
        for kind in kinds:
            began = time.monotonic()
            found.run(kind, max(round(examples * KINDS[kind][1] / total), 1))
            print(f"{found.counts[kind]:6d} {kind} ({time.monotonic() - began:.0f} s)", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="only this kind; may come several times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="wild_input_", dir=MEMORY if MEMORY.is_dir() else None))
    found = search(folder, options.examples, options.seed, options.kind or list(KINDS))
    for fault in found.faults.values():
        print(f"FAULT {fault}")
    print(f"{found.counts.total()} inputs, {len(found.faults)} faults")
    if found.faults:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
