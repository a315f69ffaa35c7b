"""Lets each call of a command that changes files fail, one at a time, and checks what the command promises.

    python -m tests.faults --points 1000 --seed 1
    python -m tests.faults --command prepare
    python -m tests.faults --command train --at 17:EIO

A first start counts the calls: open (for writing), write, fsync, rename, unlink, mkdir, symlink, chmod, flock. Then a
call fails in each further start: the disk is full (ENOSPC) or broken (EIO), the call is not allowed (EACCES), or the
process is killed there (SIGKILL). A call and a reason are a point. After each start

- no traceback was printed; exit code 0 means that the results are there, and any other one comes with one line that
  names a file and says what to do;
- files of the user are as they were, files of the command are complete or absent, and no temporary file is left behind
  unless the process was killed;
- the next start of the same command ends with the files and the table of a start that nothing has disturbed, bit for
  bit.

Prints the points that broke a promise, and ends with exit code 1 if there are some.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import platform
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import transformers

from mt_dnn.runs import environment
from tests.faults import promise
from tests.faults.commands import COMMANDS
from tests.faults.points import Faults, Undisturbed
from tests.faults.shim import Fault
from tests.faults.writers import WRITERS, use
from tests.kills.starts import Failure, get_ready

LATE = (
    *("mt_dnn.inference.trained", "mt_dnn.inference.predict", "mt_dnn.inference.distill", "mt_dnn.studies.sweep"),
    *("mt_dnn.inference.export.write", "mt_dnn.studies.figures", "mt_dnn.studies.records", "peft"),
)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faults_"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ready() -> None:
    """Makes the imports of all commands, and what they ask of other programs, once."""
    torch.set_num_threads(1)
    get_ready()
    for name in LATE:
        with contextlib.suppress(ImportError):
            __import__(name)
    environment.revision()
    environment.processor()
    gc.freeze()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--command", action="append", choices=list(COMMANDS), help="only this one; may be repeated")
    parser.add_argument("--points", type=int, help="so many points, drawn from those of all commands; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--part", default="1/1", metavar="NUMBER/PARTS", help="a share of the points, for one of several"
    )
    parser.add_argument("--at", metavar="NUMBER:REASON[:RANK]", help="only this point of one command")
    parser.add_argument("--wrong-writers", action="store_true", help="only check that the checks see writers.py")
    options = parser.parse_args()
    ready()
    with temporary_folder() as folder:
        if options.wrong_writers:
            return see_writers(folder)
        return run(Faults(folder), options)


def chosen(undisturbed: dict[str, Undisturbed], options: argparse.Namespace) -> list[tuple[str, Fault]]:
    """The points that are tried: the name of a command and the fault."""
    if options.at is not None:
        number, kind, *rank = options.at.split(":")
        return [(next(iter(undisturbed)), Fault(int(number), kind, *rank))]
    points = [(name, fault) for name, found in undisturbed.items() for fault in found.faults()]
    numbers = list(range(len(points)))
    if options.points is not None and options.points < len(points):
        numbers = sorted(random.Random(options.seed).sample(numbers, options.points))
    first, step = map(int, options.part.split("/"))
    return [points[number] for number in numbers[first - 1 :: step]]


def run(faults: Faults, options: argparse.Namespace) -> int:
    undisturbed = {name: faults.undisturbed(COMMANDS[name]) for name in options.command or COMMANDS}
    points = chosen(undisturbed, options)
    for name, count in Counter(name for name, _ in points).items():
        found = undisturbed[name]
        print(
            f"{name}: {count} of {len(found.faults())} points, at {sum(map(len, found.calls.values()))} calls",
            flush=True,
        )
    losses = wrong = 0
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C: the points so far
        for name, fault in points:
            problems = faults.broken(COMMANDS[name], undisturbed[name], fault)
            losses += any(problem.startswith(promise.LOSS) for problem in problems)
            wrong += bool(problems)
            call, file = undisturbed[name].calls[fault.rank][fault.number - 1]
            for problem in problems:
                print(f'--command "{name}" --at {fault} ({call} {file}): {problem}', flush=True)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(faults.counts.items()) if name != "points")
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    print(f"seed {options.seed}, {versions}")
    print(f"{faults.counts['points']} points ({counts}): {wrong} broke a promise, {losses} losses")
    return int(wrong > 0)


def see_writers(folder: Path) -> int:
    """Lets a command write in wrong ways. Returns the exit code: 1 if one of them is not seen."""
    command, overlooked, faults = COMMANDS["distill"], 0, Faults(folder)
    expected = faults.undisturbed(command)
    for name, (writer, call, kind, said) in WRITERS.items():
        faults.sabotage = partial(use, writer)
        try:
            calls = faults.undisturbed(command).calls
            number = next(
                number for number, (made, file) in enumerate(calls["0"], 1) if made == call and "soft" in file
            )
            problems = faults.broken(command, Undisturbed(calls, expected.files, expected.table), Fault(number, kind))
        except Failure as failure:
            problems = [str(failure)]
        seen = any(said in problem for problem in problems)
        overlooked += not seen
        print(f"a writer that {name}: {'seen' if seen else 'overlooked'} ({'; '.join(problems)})")
    return int(overlooked > 0)


if __name__ == "__main__":
    sys.exit(main())
