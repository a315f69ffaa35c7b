"""Compares what training steps ask of a pretend GPU with ``counts.json``, or writes that file.

python -m tests.pretend_gpu            every pair of mode, task type and optimizer, with a tiny encoder
python -m tests.pretend_gpu --write    the same, and renews the file if no case fails; with --only some cases of it
python -m tests.pretend_gpu --full     every combination with the tiny encoder, and the pairs with that of BERT-base
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.pretend_gpu.cases import SETTINGS, Case, grid, pairs
from tests.pretend_gpu.faults import check_instrument
from tests.pretend_gpu.measure import SHAPES, Workshop, evaluation_figures, grid_figures, setting_figures

FILE = Path(__file__).with_name("counts.json")
BLOCKS = (1, 3)


def versions() -> dict[str, str]:
    """Versions that the counts depend on, without patch levels."""
    modules = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {name: ".".join(version.split(".")[:2]) for name, version in modules.items()}


def measured(folder: Path, wanted: str) -> Iterator[tuple[str, Any]]:
    """Yields the figures of all cases whose name contains ``wanted``."""
    workshop = Workshop(folder / "tiny", SHAPES["tiny"])
    yield from grid_figures(workshop, [case for case in pairs() if wanted in case.name])
    for name in SETTINGS:
        if wanted in name:
            yield name, setting_figures(workshop, name)
    yield from ((name, figures) for name, figures in evaluation_figures(workshop) if wanted in name)
    for task in ("same", "tagged"):  # the head of the first one reads first tokens only
        if wanted in block_name(task):
            yield block_name(task), {"operations": operations_of_block(folder, task)}


def block_name(task: str) -> str:
    return f"each block in none {task} adamw"


def operations_of_block(folder: Path, task: str) -> float:
    """How many operations one more block costs in an update."""
    found = []
    for blocks in BLOCKS:
        workshop = Workshop(folder / f"{task}{blocks}", {"num_hidden_layers": blocks})
        ((_, figures),) = grid_figures(workshop, [Case("none", task, "adamw")])
        found.append(figures["operations"])
    return (found[1] - found[0]) / (BLOCKS[1] - BLOCKS[0])


def show_faults(found: dict[str, Any]) -> bool:
    """Prints the fault of each case that has no figures. Returns whether there is one."""
    faults = {name: figures["fault"] for name, figures in found.items() if "fault" in figures}
    for name, fault in faults.items():
        print(f"{name}: {fault}")
    return bool(faults)


def compare(found: dict[str, Any], wanted: str) -> int:
    """Prints where the figures differ from the file. Returns the exit code."""
    saved = json.loads(FILE.read_text(encoding="utf-8"))
    if saved["versions"] != versions():
        print(f"no mix-up and no wait; counts are not compared: they are of {saved['versions']}")
        return 0
    names = [name for name in {**saved["cases"], **found} if wanted in name]
    differing = [name for name in names if saved["cases"].get(name) != found.get(name)]
    for name in differing:
        print(f"{name}: {saved['cases'].get(name)} before, {found.get(name)} now")
    if differing:
        print("if this is right: python -m tests.pretend_gpu --write")
    return int(bool(differing))


def write(found: dict[str, Any], wanted: str) -> None:
    """Renews the figures of the cases whose name contains ``wanted``."""
    kept = {} if not wanted else json.loads(FILE.read_text(encoding="utf-8"))["cases"]
    found = {**{name: figures for name, figures in kept.items() if wanted not in name or name in found}, **found}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(figures)}" for name, figures in found.items())
    FILE.write_text(f'{{"versions": {json.dumps(versions())},\n"cases": {{\n{lines}\n}}}}\n', encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.pretend_gpu", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew counts.json")
    parser.add_argument("--full", action="store_true", help="every combination, and the shape of BERT-base")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    options = parser.parse_args()
    check_instrument()
    with tempfile.TemporaryDirectory() as temporary:
        folder, failed = Path(temporary), False
        if options.full:
            for shape, cases in (("tiny", grid()), ("base", pairs())):
                for name, figures in grid_figures(Workshop(folder / shape, SHAPES[shape]), cases):
                    print(shape, name, json.dumps(figures), flush=True)
                    failed |= "fault" in figures
            return int(failed)
        found = dict(measured(folder, options.only))
    if show_faults(found):
        return 1
    if options.write:
        write(found, options.only)
    return compare(found, options.only)


if __name__ == "__main__":
    sys.exit(main())
