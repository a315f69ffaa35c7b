"""Figures of analyses whose numbers are matrices: confusion matrices, tallies and loss surfaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mt_dnn.studies.drawing import COLOURS, WIDTH, new_figure, save, styled

RATES = "cividis"  # from dark to light for every reader, and in grey
DIFFERENCES = "PuOr"


def draw_confusion(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """One matrix of rates for each run, and their difference if there are two. ``record``: analyses/confusion.py."""
    labels, runs, difference = record["labels"], record["runs"], record["difference"]
    panels = len(runs) + (difference is not None)
    side = WIDTH / max(panels, 2) - 0.25
    with styled():
        figure, axes = new_figure(panels * side + 1.0, side + 0.9, ncols=panels, squeeze=False, sharey=True)
        for axis, run in zip(axes[0], runs, strict=False):
            heat_map(axis, run["rates"], cmap=RATES, vmin=0, vmax=1)
            _label_classes(axis, labels, f"{run['name']}\naccuracy {100 * run['accuracy']:.1f} %", "predicted class")
        if difference is not None:
            most = max(0.01, float(np.nanmax(np.abs(_with_nan(difference)))))
            heat_map(axes[0, -1], difference, cmap=DIFFERENCES, vmin=-most, vmax=most, signed=True)
            _label_classes(axes[0, -1], labels, f"{runs[1]['name']} − {runs[0]['name']}\n(points)", "predicted class")
        axes[0, 0].set_ylabel("gold class (rows in %)")
        return save(figure, record, output, name)


def draw_tally(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """A heat map of the probabilities e(y, c) for each epoch. ``record``: analyses/tally.py."""
    labels, epochs = record["labels"], record["epochs"]
    columns = min(len(epochs), 4)
    rows = math.ceil(len(epochs) / columns)
    side = max(1.5, WIDTH / max(columns, 2.5))
    with styled():
        figure, axes = new_figure(
            columns * side + 1.0,
            rows * side + 1.0,
            nrows=rows,
            ncols=columns,
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        for number, axis in enumerate(axes.flat):
            if number >= len(epochs):
                axis.set_visible(False)
                continue
            values = np.array(epochs[number]["probabilities"], float)
            np.fill_diagonal(values, np.nan)  # a right answer is never drawn
            image = heat_map(axis, values, cmap=RATES, vmin=0, vmax=1)
            across = "wrong class c" if number + columns >= len(epochs) else ""
            _label_classes(axis, labels, f"after epoch {epochs[number]['epoch']}", across)
        for axis in axes[:, 0]:
            axis.set_ylabel("gold class y")
        figure.colorbar(image, ax=list(axes.flat), label="e(y, c)", shrink=0.8, pad=0.02)
        return save(figure, record, output, name)


def draw_loss_surface(record: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Contours of the loss around each run, on one scale, and the loss between two runs.

    ``record``: analyses/loss_surface.py.
    """
    surfaces, line = record["surfaces"], record["line"]
    panels = len(surfaces) + (line is not None)
    losses = [_with_nan(surface["losses"]) for surface in surfaces]
    low = min(float(np.nanmin(values)) for values in losses)
    high = max(float(np.nanmax(values)) for values in losses)
    side = min(3.0, WIDTH / max(panels, 2))
    with styled():
        figure, axes = new_figure(panels * side + 2.0, side + 0.8, ncols=panels, squeeze=False)
        levels = _round_levels(low, high if high > low else low + 1)
        for axis, surface, values in zip(axes[0], surfaces, losses, strict=False):
            filled = axis.contourf(record["axis"], record["axis"], values.T, levels, cmap=RATES)
            contours = axis.contour(
                record["axis"], record["axis"], values.T, levels[1::2], colors="white", linewidths=0.6
            )
            axis.clabel(contours, fontsize=6, fmt="%g")
            axis.plot(0, 0, "o", color="white", markeredgecolor="black")
            axis.set(title=f"{surface['name']}\nloss {surface['loss']:.3f}", xlabel="direction 1 (filter lengths)")
            axis.set_aspect("equal")
        axes[0, 0].set_ylabel("direction 2 (filter lengths)")
        scale = figure.colorbar(filled, ax=list(axes[0, : len(surfaces)]), shrink=0.8, pad=0.02)
        scale.ax.set_title("training\nloss", fontsize=8)
        if line is not None:
            _draw_line(axes[0, -1], line, [surface["name"] for surface in surfaces])
        return save(figure, record, output, name)


def _round_levels(low: float, high: float) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(8).tick_values(low, high))


def _draw_line(axis: Any, line: Mapping[str, Any], names: list[str]) -> None:
    values = [math.nan if value is None else value for value in line["losses"]]
    axis.plot(line["positions"], values, color=COLOURS[0])
    for position, name in enumerate(names):
        axis.axvline(position, color="black", linewidth=0.8, linestyle=":")
        axis.annotate(name, (position, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8)
    axis.set(xlabel="position t", ylabel="training loss")


def heat_map(axis: Any, values: Any, *, signed: bool = False, **colours: Any) -> Any:
    """Draws a matrix with its numbers in percent. Null and NaN stay grey. ``signed``: write plus signs."""
    matrix = _with_nan(values)
    axis.set_facecolor("#cccccc")
    axis.grid(False)
    image = axis.imshow(matrix, **colours)
    size = 8 if len(matrix) <= 4 else 5.5
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        percent = round(100 * value, 1) + 0.0  # no −0.0
        text = f"{percent:+.1f}".replace("-", "−") if signed and percent else f"{percent:.1f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    return image


def _label_classes(axis: Any, labels: list[str], title: str, across: str) -> None:
    """Writes the classes at both axes of a matrix. ``across``: what the columns are."""
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(range(len(labels)), labels, **(turned if max(map(len, labels)) > 3 else {}))
    axis.set_yticks(range(len(labels)), labels)
    axis.tick_params(length=0)
    axis.set(title=title, xlabel=across)
    axis.spines[:].set_visible(False)


def _with_nan(values: Any) -> np.ndarray:
    return np.array([[math.nan if value is None else value for value in row] for row in values], float)
