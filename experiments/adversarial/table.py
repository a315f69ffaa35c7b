"""The tables of experiments/results/adversarial_cpu.md from finished runs: mean ± standard deviation over seeds.

python experiments/adversarial/table.py runs/adversarial
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GLUE = [("cola", "mcc"), ("sst2", "accuracy"), ("stsb", "pearson"), ("stsb", "spearman")]
GLUE += [("mrpc", "accuracy"), ("mrpc", "f1")]
NLI = [("mnli", "accuracy"), ("snli", "accuracy"), ("scitail", "accuracy"), ("hans", "accuracy")]
FIGURES = ("delta_ratio", "gradient_share", "regularizer", "dropout_floor")

Cells = dict[Any, list[float]]


def read(folder: Path) -> tuple[dict[str, Cells], dict[str, Cells], dict[tuple[str, str], float]]:
    """Scores and figures by mode, and the scores of a constant prediction; the trained task is part of a name."""
    scores: dict[str, Cells] = defaultdict(lambda: defaultdict(list))
    figures: dict[str, Cells] = defaultdict(lambda: defaultdict(list))
    constant: dict[tuple[str, str], float] = {}
    for file in sorted(folder.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        trained, mode = summary["name"].split("-", 1)
        for result in summary["results"]:
            for metric, value in result["scores"].items():
                scores[mode][result["task"], metric].append(100 * value)
                constant[result["task"], metric] = 100 * result["baseline"][metric]
        seconds = json.loads((file.parent / "cpu_seconds.json").read_text(encoding="utf-8"))
        scores[mode][trained, "minutes"].append(seconds / 60)
        for line in (file.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            for name, value in json.loads(line).get("adversary", {}).items():
                figures[mode][trained, name].append(value)
    return scores, figures, constant


def cell(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation, and the number of seeds where it is not three."""
    if not values:
        return "—"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}" + ("" if len(values) == 3 else f" ({len(values)})")


def score_rows(scores: dict[str, Cells], columns: Sequence[tuple[str, str]], order: Sequence[str]) -> list[list[str]]:
    trained = dict.fromkeys(task for task, _ in columns)
    rows = []
    for mode in order:
        if any(scores[mode].get(column) for column in columns):
            minutes = [
                statistics.mean(scores[mode][task, "minutes"]) for task in trained if (task, "minutes") in scores[mode]
            ]
            rows.append([mode, *(cell(scores[mode].get(column, [])) for column in columns), f"{sum(minutes):.1f}"])
    return rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def main(folder: Path) -> None:
    scores, figures, constant = read(folder)
    order = ["none", *sorted(mode for mode in scores if mode != "none")]
    for columns in (GLUE, NLI):
        base = ["constant prediction", *(f"{constant[c]:.1f}" if c in constant else "—" for c in columns), ""]
        header = ["mode", *(f"{task} {metric}" for task, metric in columns), "minutes"]
        print(markdown(header, [base, *score_rows(scores, columns, order)]), end="\n\n")
    rows = []
    for mode in order:
        for task in dict.fromkeys(task for task, _ in figures[mode]):
            values = [figures[mode].get((task, name), []) for name in FIGURES]
            rows.append([mode, task, *(f"{statistics.mean(v):.2g}" if v else "—" for v in values)])
    print(markdown(["mode", "task", *FIGURES], rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
