"""Training sets of SNLI and SciTail of 0.1, 1, 10 and 100 % of the rows, the smaller ones part of the larger ones.

Reads the canonical rows that experiments/nli/convert.py writes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from data_utils.errors import UserError, os_errors, unknown_key
from data_utils.files import read_lines, replacing
from data_utils.rows import find_rows
from data_utils.task_def import TaskDef, load_task_defs

TASKS = ("snli", "scitail")
DEFS = Path(__file__).parents[2] / "task_defs" / "nli.yml"
SHARES = {"0.1": 1000, "1": 100, "10": 10, "100": 1}  # Liu et al. 2019, section 4.5: percentage, one row of how many


def subsets(rows: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Random rows in their old order, by percentage: as many as the paper has, which rounds down, but at least one."""
    drawn = random.Random(seed).sample(range(len(rows)), len(rows))
    counts = {percent: max(1, len(rows) // share) for percent, share in SHARES.items()}
    return {percent: [rows[number] for number in sorted(drawn[:count])] for percent, count in counts.items()}


def read(source: Path, task: TaskDef) -> tuple[list[str], dict[str, bytes]]:
    """Header and rows of the training file, and the content of the dev and test files by name.

    Raises:
        UserError: a file is missing, or the training file is not a TSV file with a header.
    """
    train, *others = (find_rows(source, task, split) for split in ("train", "dev", "test"))
    header_and_rows = [line for _, line in read_lines(train)] if train.suffix == ".tsv" else []
    if len(header_and_rows) < 2 or not header_and_rows[0].startswith("uid\t"):
        remedy = "give a plain .tsv with a header line and rows, as experiments/nli/convert.py writes it"
        raise UserError(f"{train}: {remedy}")
    with os_errors(source, "cannot be read"):
        return header_and_rows, {path.name: path.read_bytes() for path in others}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def convert(tasks: Sequence[str], source: Path, output: Path, seed: int) -> None:
    """Writes ``<output>/<percent>/<task>_train.tsv`` with all dev and test rows beside it. Reads all files first."""
    defs = load_task_defs(DEFS)
    found = {task: read(source, defs[task]) for task in tasks}
    for task, ((header, *rows), others) in found.items():
        for percent, kept in subsets(rows, seed).items():
            train = "".join(f"{line}\n" for line in [header, *kept]).encode()
            for name, content in {f"{task}_train.tsv": train, **others}.items():
                write(output / percent / name, content)
            print(f"{output / percent}: {task} {len(kept)} training rows")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the folder with snli_train.tsv and the like")
    parser.add_argument("--output", type=Path, required=True, help="gets a folder for each percentage")
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}; all")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    options = parser.parse_args(arguments)
    try:
        for task in options.tasks:
            if task not in TASKS:
                raise unknown_key("--tasks", task, TASKS)
        with os_errors(options.output, "cannot be written"):
            convert(options.tasks, options.source, options.output, options.seed)
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
