"""The tables of experiments/results/baseline_cpu.md from finished runs: mean ± standard deviation over seeds.

python experiments/baseline/table.py runs/baseline
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from data_utils.text_table import markdown

Scores = dict[tuple[str, str], dict[int, float]]  # (task, metric) → seed → score


def peer_scores(folder: Path) -> Scores:
    found: Scores = defaultdict(dict)
    file = folder / "hf_trainer.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        record = json.loads(line)
        for metric, value in record["scores"].items():
            found[record["task"], metric][record["seed"]] = value
    return found


def our_scores(folder: Path, *, multi_task: bool) -> tuple[Scores, dict[tuple[str, str], float]]:
    """Scores of the finished runs, and the scores of a constant prediction."""
    found: Scores = defaultdict(dict)
    constant: dict[tuple[str, str], float] = {}
    for file in sorted(folder.glob("*/summary.json")):
        summary = json.loads(file.read_text(encoding="utf-8"))
        if (summary["name"] == "multi_task") == multi_task:
            for result in summary["results"]:
                for metric, value in result["scores"].items():
                    found[result["task"], metric][summary["seed"]] = value
                    constant[result["task"], metric] = result["baseline"][metric]
    return found, constant


def cell(scores: dict[int, float]) -> str:
    """Mean ± sample standard deviation times 100, and the number of seeds."""
    values = [100 * value for value in scores.values()]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread} ({len(values)})" if values else "—"


def main(folder: Path) -> None:
    peer = peer_scores(folder)
    ours, constant = our_scores(folder, multi_task=False)
    rows = []
    for key in sorted({*ours, *peer} & constant.keys()):
        means = [statistics.mean(side[key].values()) if side.get(key) else None for side in (ours, peer)]
        gap = "—" if None in means else f"{100 * (means[0] - means[1]):+.2f}"  # type: ignore[operator]
        rows.append((*key, cell(ours.get(key, {})), cell(peer.get(key, {})), gap, f"{100 * constant[key]:.2f}"))
    print(markdown(("task", "metric", "ours", "Trainer", "difference", "constant prediction"), rows))
    multi, constant = our_scores(folder, multi_task=True)
    print()
    multi_rows = [(*key, cell(scores), f"{100 * constant[key]:.2f}") for key, scores in sorted(multi.items())]
    print(markdown(("task", "metric", "multi-task", "constant prediction"), multi_rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
