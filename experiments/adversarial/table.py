"""The tables of experiments/results/adversarial_cpu.md from finished runs: mean ± standard deviation over seeds.

python experiments/adversarial/table.py runs/adversarial
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_utils.files import write_json_lines
from data_utils.text_table import markdown

GLUE = [("cola", "mcc"), ("sst2", "accuracy"), ("stsb", "pearson"), ("stsb", "spearman")]
GLUE += [("mrpc", "accuracy"), ("mrpc", "f1")]
NLI = [("mnli", "accuracy"), ("snli", "accuracy"), ("scitail", "accuracy"), ("hans", "accuracy")]
FIGURES = ("delta_ratio", "gradient_share", "regularizer", "dropout_floor")

MAIN = {"cola": "mcc", "sst2": "accuracy", "stsb": "pearson", "mrpc": "accuracy"}

Cells = dict[Any, list[float]]
MARK = "†"
NOTE = f"{MARK} measured before the presets changed"


def records(location: Path) -> Iterator[dict[str, Any]]:
    """One record per finished run, from a folder of run folders or from a file that ``--save`` has written."""
    if location.is_file():
        yield from map(json.loads, location.read_text(encoding="utf-8").splitlines())
        return
    for file in sorted(location.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        figures: Cells = defaultdict(list)
        for line in (file.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            for name, value in json.loads(line).get("adversary", {}).items():
                figures[name].append(value)
        yield {
            "name": summary["name"],
            "seed": summary["seed"],
            "cpu_seconds": json.loads((file.parent / "cpu_seconds.json").read_text(encoding="utf-8")),
            "results": summary["results"],
            "figures": {name: statistics.mean(values) for name, values in figures.items()},
        }


def task_and_mode(record: dict[str, Any]) -> tuple[str, str]:
    """The task that a run has trained, and its mode, marked if the mode's preset has changed since the run."""
    task, mode = record["name"].split("-", 1)
    return task, f"{mode} {MARK}" if record.get("preset_changed_since") else mode


def read(locations: Sequence[Path]) -> tuple[dict[str, Cells], dict[str, Cells], dict[tuple[str, str], float]]:
    """Scores and figures by mode, and the scores of a constant prediction. A run in several locations counts once."""
    scores: dict[str, Cells] = defaultdict(lambda: defaultdict(list))
    figures: dict[str, Cells] = defaultdict(lambda: defaultdict(list))
    constant: dict[tuple[str, str], float] = {}
    runs = {(record["name"], record["seed"]): record for location in locations for record in records(location)}
    for _, record in sorted(runs.items()):
        trained, mode = task_and_mode(record)
        for result in record["results"]:
            for metric, value in result["scores"].items():
                scores[mode][result["task"], metric].append(100 * value)
                constant[result["task"], metric] = 100 * result["baseline"][metric]
        scores[mode][trained, "minutes"].append(record["cpu_seconds"] / 60)
        for figure, value in record["figures"].items():
            figures[mode][trained, figure].append(value)
    return scores, figures, constant


def cell(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation, and the number of seeds where it is not three."""
    if not values:
        return "—"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}" + ("" if len(values) == 3 else f" ({len(values)})")


def mean_rows(locations: Sequence[Path], order: Sequence[str]) -> list[list[str]]:
    """For each mode the mean over GLUE's tasks, and its difference from the mean of ``none`` with the same seed."""
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for location in locations:
        for record in records(location):
            task, mode = task_and_mode(record)
            for result in record["results"]:
                if task in MAIN and result["task"] == task:
                    found[mode][record["seed"]][task] = 100 * result["scores"][MAIN[task]]
    means = {
        mode: {
            seed: statistics.mean(by_task.values())
            for seed, by_task in sorted(seeds.items())
            if by_task.keys() == MAIN.keys()
        }
        for mode, seeds in found.items()
    }
    return [
        [mode, cell([*means[mode].values()]), cell([v - means["none"][s] for s, v in means[mode].items()])]
        for mode in order
        if means.get(mode)
    ]


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


def save(locations: Sequence[Path], file: Path) -> None:
    """Writes the records of all locations, one JSON object a line."""
    runs = {(record["name"], record["seed"]): record for location in locations for record in records(location)}
    write_json_lines(file, (runs[key] for key in sorted(runs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locations", type=Path, nargs="+", help="folders of runs, or files written by --save")
    parser.add_argument("--save", type=Path, help="write one JSON line per run into this file")
    options = parser.parse_args()
    if options.save is not None:
        save(options.locations, options.save)
    scores, figures, constant = read(options.locations)
    order = ["none", *sorted(mode for mode in scores if mode != "none")]
    for columns in (GLUE, NLI):
        base = ["constant prediction", *(f"{constant[c]:.1f}" if c in constant else "—" for c in columns), ""]
        header = ["mode", *(f"{task} {metric}" for task, metric in columns), "minutes"]
        print(markdown(header, [base, *score_rows(scores, columns, order)]), end="\n\n")
    header = ["mode", f"mean of {', '.join(MAIN)}", "minus none"]
    print(markdown(header, mean_rows(options.locations, order)), end="\n\n")
    rows = []
    for mode in order:
        for task in dict.fromkeys(task for task, _ in figures[mode]):
            values = [figures[mode].get((task, name), []) for name in FIGURES]
            rows.append([mode, task, *(f"{statistics.mean(v):.2g}" if v else "—" for v in values)])
    print(markdown(["mode", "task", *FIGURES], rows))
    if any(MARK in mode for mode in order):
        print(f"\n{NOTE}")


if __name__ == "__main__":
    main()
