"""The table of experiments/results/tasks_cpu.md from finished runs: mean ± standard deviation over seeds.

python experiments/tasks/table.py runs/tasks
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from data_utils.metrics import METRICS


def main(folder: Path) -> None:
    scores: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    constant: dict[tuple[str, ...], float] = {}
    for file in sorted(folder.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        for result in summary["results"]:
            for metric, value in result["scores"].items():
                key = (summary["name"], result["task"], result["split"], str(result["rows"]), metric)
                scores[key][summary["seed"]] = value
                constant[key] = result["baseline"][metric]
    print("| run | task | split | rows | metric | score | constant prediction |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row, by_seed in scores.items():
        factor = 1 if METRICS[row[-1]].lower_is_better else 100
        values = [factor * value for value in by_seed.values()]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cell = f"{statistics.mean(values):.2f}{spread} ({len(values)})"
        print(f"| {' | '.join(row)} | {cell} | {factor * constant[row]:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
