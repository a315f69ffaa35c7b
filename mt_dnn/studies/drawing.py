"""What all figures have in common: style, colours, and files.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart. Markers, dashes and hatches say the same
once more, so that a figure can be read when it is printed in grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, os_errors
from data_utils.files import replacing
from mt_dnn.runs.folder import write_json

COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (1, 3)), (0, (3, 1, 1, 1)))
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "ooo", "+++")
WIDTH = 6.3  # of a figure, in inches: the width of text on A4
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "mt-dnn",  # the same figure is the same file
    "savefig.dpi": 200,
}


def styled() -> AbstractContextManager[None]:
    """The style of all figures, as a context in which they are drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError("figures: matplotlib is not installed; pip install 'mt-dnn[studies]'") from None
    return matplotlib.rc_context(STYLE)


def new_figure(width: float = WIDTH, height: float = 3.4, **grid: Any) -> tuple[Any, Any]:
    """A figure of this size in inches and its axes, as ``Figure.subplots(**grid)`` gives them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(**grid)


def look(number: int) -> dict[str, Any]:
    """The colour, marker and dashes of a line. They repeat after eight lines."""
    turn = number % len(COLOURS)
    return {"color": COLOURS[turn], "marker": MARKERS[turn], "linestyle": DASHES[turn], "markeredgecolor": "black"}


def save(figure: Any, content: Mapping[str, Any], output: Path, name: str) -> list[Path]:
    """Writes a figure as png and svg, and its numbers as json, into a folder. Returns the three files.

    Raises:
        UserError: the folder cannot be written.
    """
    paths = [output / f"{name}.{kind}" for kind in ("json", "png", "svg")]
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
    write_json(paths[0], content)
    for path in paths[1:]:
        kind = path.suffix[1:]
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return paths


def direct_label(axes: Any, x: float, y: float, text: str) -> None:
    """Writes a text beside a point."""
    axes.annotate(text, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
