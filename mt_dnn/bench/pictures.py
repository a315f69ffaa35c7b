"""Pictures as SVG, which browsers and Git hosts show: horizontal bars, and curves over logarithmic axes.

No drawing library is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from data_utils.errors import UserError, os_errors
from data_utils.files import replacing

LABEL, BAR, ROW = 220, 420, 22  # pixels: of the labels, of the longest bar, of the height of a bar
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 280, 56, 16, 28, 44  # of a panel and its margins, in pixels
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")


class Bar(NamedTuple):
    """A bar. ``mark``: where to draw a line across it, for example at a lower bound; None: nowhere."""

    label: str
    value: float
    mark: float | None = None


def check_picture(path: Path | None) -> None:
    """Raises UserError unless a picture can be written there. A command asks before it measures for minutes."""
    if path is not None and path.suffix != ".svg":
        raise UserError(f"--picture {path}: the picture is an SVG file; give a name such as {path.stem}.svg")
    if path is not None and not path.parent.is_dir():
        raise UserError(f"--picture {path}: no folder {path.parent}; make it first")


def write_bars(path: Path, title: str, bars: Sequence[Bar], notes: str) -> None:
    """Writes a picture with a title above the bars and notes below them.

    Raises:
        UserError: the file cannot be written.
    """
    longest = max((max(bar.value, bar.mark or 0) for bar in bars), default=0) or 1
    parts = [_text(title, 8, 20, size=15)]
    for number, bar in enumerate(bars):
        top = 34 + number * ROW
        parts.append(_text(bar.label, LABEL - 6, top + 14, size=12, anchor="end"))
        width = bar.value / longest * BAR
        parts.append(f'<rect x="{LABEL}" y="{top}" width="{width:.1f}" height="{ROW - 6}" fill="#4878a8"/>')
        if bar.mark is not None:
            at = LABEL + bar.mark / longest * BAR
            parts.append(f'<path d="M{at:.1f} {top - 2}V{top + ROW - 4}" stroke="#c44e52" stroke-width="2"/>')
        parts.append(_text(f"{bar.value:g}", LABEL + BAR + 10, top + 14, size=12))
    height = 34 + len(bars) * ROW
    parts.append(_text(notes, 8, height + 16))
    size = f'width="{LABEL + BAR + 90}" height="{height + 26}"'
    with os_errors(path, "cannot be written"), replacing(path) as temporary:
        temporary.write_text(_svg(size, parts), encoding="utf-8")


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``curves``: by name, a positive value for each of ``sizes``, which are positive too."""

    across: str
    upwards: str
    sizes: Sequence[float]
    curves: Mapping[str, Sequence[float]]


def drawing(panels: Sequence[Panel]) -> str:
    """An SVG picture with the panels side by side."""
    parts = [f'<g transform="translate({number * WIDTH} 0)">{_panel(part)}</g>' for number, part in enumerate(panels)]
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}"'
    return _svg(size, ['<rect width="100%" height="100%" fill="white"/>', *parts])


def _panel(panel: Panel) -> str:
    values = [value for curve in panel.curves.values() for value in curve]
    x_low, x_high = _decades(panel.sizes)
    y_low, y_high = _decades(values)

    def x(size: float) -> float:
        return LEFT + (log10(size) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (log10(value) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for power in range(x_low, x_high + 1):
        parts.append(_line((x(10.0**power), TOP), (x(10.0**power), HEIGHT - BOTTOM)))
        parts.append(_text(f"{10.0**power:g}", x(10.0**power), HEIGHT - BOTTOM + 14, anchor="middle"))
    for power in range(y_low, y_high + 1):
        parts.append(_line((LEFT, y(10.0**power)), (WIDTH - RIGHT, y(10.0**power))))
        parts.append(_text(f"{10.0**power:g}", LEFT - 4, y(10.0**power) + 4, anchor="end"))
    parts.append(_text(panel.across, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, anchor="middle"))
    parts.append(_text(panel.upwards, LEFT, 12))
    for number, (name, curve) in enumerate(panel.curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in zip(panel.sizes, curve, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(name, LEFT + 6, TOP + 12 + 13 * number, colour=colour))
    return "".join(parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values. There is at least one decade between them."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return low, max(high, low + 1)


def _line(start: tuple[float, float], stop: tuple[float, float]) -> str:
    ends = "".join(f' x{n}="{x:.1f}" y{n}="{y:.1f}"' for n, (x, y) in enumerate((start, stop), 1))
    return f'<line{ends} stroke="#dddddd"/>'


def _svg(size: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">\n{body}\n</svg>\n'


def _text(words: str, x: float, y: float, *, size: int = 11, anchor: str = "start", colour: str = "black") -> str:
    where = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {where}>{escape(words)}</text>"
