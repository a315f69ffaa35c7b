"""The table of experiments/results/distillation_cpu.md from finished runs.

python experiments/distillation/table.py runs/distillation
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

Column = tuple[str, str, str]  # task, split, metric


def read(folder: Path) -> dict[Column, dict[str, dict[int, float]]]:
    """Scores times 100, by column, by teacher, alone and taught, by seed."""
    found: dict[Column, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted(folder.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        for result in summary["results"]:
            for metric, value in result["scores"].items():
                column = (result["task"], result["split"], metric)
                found[column][summary["name"].split("-")[0]][summary["seed"]] = 100 * value
    return found


def cell(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print("| task | split | metric | teacher | student alone | student taught | taught − alone, same seed | seeds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for column, scores in read(parser.parse_args().folder).items():
        alone, taught = scores["alone"], scores["taught"]
        gains = [taught[seed] - alone[seed] for seed in sorted(alone.keys() & taught.keys())]
        cells = [cell([*scores["teacher"].values()]), cell([*alone.values()]), cell([*taught.values()]), cell(gains)]
        print(f"| {' | '.join([*column, *cells, str(len(gains))])} |")


if __name__ == "__main__":
    main()
