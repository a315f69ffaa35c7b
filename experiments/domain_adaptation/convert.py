"""Training sets of SNLI and SciTail of 0.1, 1, 10 and 100 % of the rows, the smaller ones part of the larger ones.

Reads the canonical rows that experiments/nli/convert.py writes.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from data_utils.errors import MissingRows, UserError, unknown_key
from data_utils.rows import find_rows

TASKS = ("snli", "scitail")
PERCENT = ("0.1", "1", "10", "100")  # Liu et al. 2019, section 4.5


def subsets(lines: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Lines of each size in their order, by percentage; at least one."""
    drawn = random.Random(seed).sample(range(len(lines)), len(lines))
    counts = {percent: max(1, round(len(lines) * float(percent) / 100)) for percent in PERCENT}
    return {percent: [lines[place] for place in sorted(drawn[:count])] for percent, count in counts.items()}


def convert(task: str, source: Path, output: Path, seed: int) -> list[str]:
    """Writes `<output>/<percent>/<task>_<split>.tsv`, dev and test whole in each; returns what was written."""
    train = find_rows(source, task, "train")
    if train.suffix != ".tsv":
        raise UserError(f"{train}: give a plain .tsv with a header line, as experiments/nli/convert.py writes it")
    header, *lines = train.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if not header.startswith("uid\t") or not lines:
        raise UserError(f"{train}: no header line, or no rows")
    written = []
    for percent, kept in subsets(lines, seed).items():
        folder = output / percent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{task}_train.tmp"
        temporary.write_text("".join(f"{line}\n" for line in [header, *kept]), encoding="utf-8")
        temporary.replace(folder / f"{task}_train.tsv")
        for split in ("dev", "test"):
            shutil.copyfile(find_rows(source, task, split), folder / f"{task}_{split}.tsv")
        written.append(f"{folder}: {task} {len(kept)} training rows")
    return written


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
            print("\n".join(convert(task, options.source, options.output, options.seed)))
    except (UserError, MissingRows) as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
