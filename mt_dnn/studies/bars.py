"""Figures of analyses that compare runs by a few numbers: agreement, challenge sets, robustness and calibration."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt_dnn.studies.drawing import COLOURS, HATCHES, WIDTH, look, new_figure, save, styled

Groups = Mapping[str, Mapping[str, Sequence[float]]]  # name of runs → name of group → a value for each run


def draw_agreement(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Accuracy in each category of agreement, with sd over runs of one name. ``record``: analyses/agreement.py."""
    groups = by_name(
        (run["name"], category, accuracy)
        for run in record["runs"]
        for category, accuracy in run["accuracy"].items()
        if accuracy is not None
    )
    ticks = {category: f"{category}\n{rows} rows" for category, rows in record["rows"].items() if rows}
    with styled():
        figure, axis = new_figure(min(WIDTH, 2.2 + 1.1 * len(ticks)), 3.1)
        grouped_bars(axis, groups, ticks)
        axis.set(xlabel="votes for each label", ylabel=f"accuracy on {record['task']}/{record['split']} (%)")
        return save(figure, record, output, name)


def draw_challenge(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Accuracy on each part of each challenge set. ``record``: analyses/challenge.py."""
    sets = {part["set"] for part in record["parts"]}
    ticks, entries = dict[str, str](), []
    for part in record["parts"]:
        values = " / ".join(part["part"].values()) or "all rows"
        key = f"{part['set']} {values}"
        ticks[key] = (f"{part['set']}: " if len(sets) > 1 else "") + f"{values} ({part['rows']})"
        entries.append((part["name"], key, part["accuracy"]))
    groups = by_name(entries)
    with styled():
        height = 0.9 + len(ticks) * (0.12 + 0.1 * len(groups))
        figure, axis = new_figure(WIDTH, height)
        grouped_bars(axis, groups, ticks, upright=False)
        axis.set(xlabel="accuracy (%)", ylabel="" if len(sets) > 1 else f"part of {next(iter(sets))} (rows)")
        axis.set_xlim(0, 100)
        return save(figure, record, output, name)


def draw_robustness(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Boxes of the loss increments of each run, for each reference. ``record``: analyses/robustness.py."""
    references = [table for table in record["references"] if table["radii"]]
    with styled():
        figure, axes = new_figure(
            min(WIDTH, 1.2 + 2.4 * max(1, len(references))),
            3.0,
            ncols=max(1, len(references)),
            squeeze=False,
            sharey=True,
        )
        for axis, table in zip(axes[0], references, strict=False):
            models = table["models"]
            boxes = axis.boxplot(
                [model["increases"] for model in models], patch_artist=True, widths=0.6, medianprops={"color": "black"},
                flierprops={"marker": ".", "markersize": 3},
            )  # fmt: skip
            for number, box in enumerate(boxes["boxes"]):
                box.set(facecolor=COLOURS[number % len(COLOURS)], hatch=HATCHES[number % len(HATCHES)])
            axis.set_xticks(range(1, len(models) + 1), [model["name"] for model in models], rotation=20, ha="right")
            axis.grid(False, axis="x")
            axis.set_title(f"balls of {table['name']}\n{len(table['radii'])} examples")
        axes[0, 0].set_ylabel("largest increase of the loss (nats)")
        return save(figure, record, output, name)


def draw_calibration(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Accuracy against confidence; the area of a point is its number of rows. ``record``: analyses/calibration.py."""
    with styled():
        figure, axis = new_figure(3.9, 3.5)
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", label="perfectly calibrated")
        for number, run in enumerate(record["runs"]):
            style = look(number)
            confidence, accuracy = ([entry[key] for entry in run["bins"]] for key in ("confidence", "accuracy"))
            label = f"{run['name']} (ECE {100 * run['ece']:.1f} %)"
            axis.plot(confidence, accuracy, color=style["color"], linestyle=style["linestyle"], linewidth=1)
            sizes = [200 * entry["rows"] / run["rows"] + 6 for entry in run["bins"]]
            axis.scatter(
                confidence,
                accuracy,
                sizes,
                color=style["color"],
                marker=style["marker"],
                edgecolors="black",
                linewidths=0.5,
            )
            axis.plot([], [], **style, label=label)
        low = min(entry["low"] for run in record["runs"] for entry in run["bins"])
        axis.set(xlim=(low - 0.02, 1.02), ylim=(-0.02, 1.02), xlabel="confidence: probability of the predicted class")
        axis.set_ylabel(f"accuracy on {record['task']}/{record['split']}")
        axis.legend(loc="upper left", fontsize=8)
        return save(figure, record, output, name)


def by_name(entries: Any) -> dict[str, dict[str, list[float]]]:
    """Collects (name of runs, name of group, value) triples."""
    groups: dict[str, dict[str, list[float]]] = {}
    for name, group, value in entries:
        groups.setdefault(name, {}).setdefault(group, []).append(value)
    return groups


def grouped_bars(axis: Any, groups: Groups, ticks: Mapping[str, str], *, upright: bool = True) -> None:
    """Bars of means in percent, side by side for each group, with ± sd where there are several values.

    ``ticks``: what is written at each group, by its name. ``upright``: whether bars stand or lie.
    """
    width = 0.8 / max(1, len(groups))
    draw = axis.bar if upright else axis.barh
    for number, (name, values) in enumerate(groups.items()):
        positions = np.arange(len(ticks)) + (number - (len(groups) - 1) / 2) * width
        means = [100 * statistics.mean(values[key]) if key in values else math.nan for key in ticks]
        sds = [100 * statistics.stdev(values[key]) if len(values.get(key, ())) > 1 else 0.0 for key in ticks]
        errors = {"yerr" if upright else "xerr": sds, "error_kw": {"capsize": 2, "linewidth": 1}} if any(sds) else {}
        seeds = max(map(len, values.values()), default=1)
        draw(
            positions, means, width, color=COLOURS[number % len(COLOURS)], hatch=HATCHES[number % len(HATCHES)],
            edgecolor="black", linewidth=0.6, label=f"{name} ({seeds} runs)" if seeds > 1 else name, **errors,
        )  # fmt: skip
    if upright:
        axis.set_xticks(range(len(ticks)), ticks.values())
        axis.set_ylim(0, 100)
        axis.grid(False, axis="x")
    else:
        axis.set_yticks(range(len(ticks)), ticks.values())
        axis.invert_yaxis()
        axis.grid(False, axis="y")
    if len(groups) > 1:
        axis.figure.legend(loc="outside upper center", ncols=min(4, len(groups)))
