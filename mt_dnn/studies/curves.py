"""Figures of scores over runs: against an axis, against time, over a training run, and from seed to seed.

Every function takes plain numbers: the scores of the runs of each line. Scores are shares, shown in percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt_dnn.studies.drawing import direct_label, look, new_figure, save, styled

Scores = Sequence[float]


def draw_axis(
    series: Mapping[str, Mapping[str, Scores]], output: Path, name: str, *, axis: str, score: str
) -> list[Path]:
    """Score against the labels of an axis, such as ``max_layer`` (Pereira, Taya and Kobayashi 2021, figures 2 and 3).

    Args:
        series: name of the line → label of the axis → the scores of its runs.
        axis, score: what stands at the two axes.
    """
    labels = list(dict.fromkeys(label for values in series.values() for label in values))
    with styled():
        figure, axes = new_figure(4.6, 3.0)
        for number, (line, values) in enumerate(series.items()):
            here = [label for label in labels if label in values]
            positions = np.array([labels.index(label) for label in here])
            means, low, high = band([values[label] for label in here])
            style = look(number)
            axes.plot(positions, means, **style, label=f"{line}, mean of {_runs(values.values())}")
            axes.fill_between(positions, low, high, color=style["color"], alpha=0.2, linewidth=0)
            for position, label in zip(positions, here, strict=True):
                each = [100 * value for value in values[label]]
                axes.plot([position] * len(each), each, ".", color=style["color"], markersize=3, alpha=0.8)
        axes.set_xticks(range(len(labels)), labels)
        axes.set(xlabel=axis, ylabel=f"{score} (%)")
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        return save(figure, {"kind": "axis", "axis": axis, "score": score, "series": series}, output, name)


def draw_time(
    points: Mapping[str, Mapping[str, Scores]], output: Path, name: str, *, reference: str, score: str
) -> list[Path]:
    """Gain in score over a reference, against the time of a run (Pereira, Taya and Kobayashi 2021, figure 1).

    Args:
        points: name of the method → ``scores`` and ``seconds`` of its runs.
        reference: the method that others are compared with: gain 0, time 1.
    """
    base_score, base_time = (statistics.mean(points[reference][key]) for key in ("scores", "seconds"))
    with styled():
        figure, axes = new_figure(4.6, 3.0)
        for number, (method, values) in enumerate(points.items()):
            gains = [100 * (value - base_score) for value in values["scores"]]
            ratios = [value / base_time for value in values["seconds"]]
            x, y = statistics.mean(ratios), statistics.mean(gains)
            spread = {key: _sd(found) for key, found in (("xerr", ratios), ("yerr", gains))}
            style = {**look(number), "linestyle": "none"}
            axes.errorbar(x, y, **spread, **style, capsize=2, elinewidth=0.8)
            direct_label(axes, x, y, method)
        axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.margins(0.18)
        axes.set(xlabel=f"time of a run (multiple of {reference})", ylabel=f"gain in {score} (points)")
        content = {"kind": "time", "reference": reference, "score": score, "points": points}
        return save(figure, content, output, name)


def draw_learning_curves(
    series: Mapping[str, Sequence[Mapping[int, float]]], output: Path, name: str, *, score: str
) -> list[Path]:
    """Score over the updates of training: the mean over seeds, and a band of one sd.

    Args:
        series: name of the line → for each run, update → score. A mean is drawn where all of them have a score.
    """
    with styled():
        figure, axes = new_figure(4.6, 3.0)
        for number, (line, runs) in enumerate(series.items()):
            steps = sorted(set.intersection(*(set(run) for run in runs)))
            means, low, high = band([[run[step] for run in runs] for step in steps])
            style = look(number)
            label = f"{line}, mean of {len(runs)} runs" if len(runs) > 1 else line
            axes.plot(steps, means, **style, markevery=max(1, len(steps) // 10), label=label)
            axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)
        axes.set(xlabel="update", ylabel=f"{score} (%)")
        figure.legend(loc="outside upper center", ncols=2, fontsize=8)
        curves = {
            line: [{str(step): value for step, value in run.items()} for run in runs] for line, runs in series.items()
        }
        return save(figure, {"kind": "learning_curves", "score": score, "series": curves}, output, name)


def draw_seed_spread(groups: Mapping[str, Mapping[str, Scores]], output: Path, name: str, *, score: str) -> list[Path]:
    """The score of every run, with the mean of each method.

    Args:
        groups: name of the panel → name of the method → the scores of its runs.
    """
    with styled():
        columns = max(1, len(groups))
        figure, axes = new_figure(min(6.3, 1.2 + 2.2 * columns), 3.0, ncols=columns, squeeze=False)
        for panel, (group, methods) in zip(axes[0], groups.items(), strict=False):
            for number, values in enumerate(methods.values()):
                style = look(number)
                shift = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
                panel.scatter(
                    number + shift, [100 * value for value in values], 16, color=style["color"], marker=style["marker"],
                    edgecolors="black", linewidths=0.4,
                )  # fmt: skip
                mean = 100 * statistics.mean(values)
                panel.plot([number - 0.32, number + 0.32], [mean, mean], color="black", linewidth=1.2)
            panel.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
            panel.set_title(group)
            panel.grid(False, axis="x")
        axes[0, 0].set_ylabel(f"{score} (%)")
        return save(figure, {"kind": "seed_spread", "score": score, "groups": groups}, output, name)


def band(values: Sequence[Scores]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, mean − sd and mean + sd of each list, in percent. One run has no sd."""
    means = np.array([100 * statistics.mean(found) for found in values])
    sds = np.array([_sd([100 * value for value in found]) or 0.0 for found in values])
    return means, means - sds, means + sds


def _sd(values: Scores) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _runs(values: Any) -> str:
    counts = {len(found) for found in values}
    text = str(min(counts)) if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
    return "1 run" if text == "1" else f"{text} runs"
