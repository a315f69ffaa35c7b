"""Draws curves over logarithmic axes as SVG, which browsers and Git hosts show. No drawing library is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 280, 56, 16, 28, 44  # of a panel and its margins, in pixels
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


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
    style = 'font-family="sans-serif" font-size="11"'
    body = "\n".join(['<rect width="100%" height="100%" fill="white"/>', *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{body}\n</svg>\n'


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
        parts.append(_text(f"{10.0**power:g}", x(10.0**power), HEIGHT - BOTTOM + 14, "middle"))
    for power in range(y_low, y_high + 1):
        parts.append(_line((LEFT, y(10.0**power)), (WIDTH - RIGHT, y(10.0**power))))
        parts.append(_text(f"{10.0**power:g}", LEFT - 4, y(10.0**power) + 4, "end"))
    parts.append(_text(panel.across, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle"))
    parts.append(_text(panel.upwards, LEFT, 12, "start"))
    for number, (name, curve) in enumerate(panel.curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in zip(panel.sizes, curve, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(name, LEFT + 6, TOP + 12 + 13 * number, "start", colour))
    return "".join(parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values. There is at least one decade between them."""
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return low, max(high, low + 1)


def _line(start: tuple[float, float], stop: tuple[float, float]) -> str:
    ends = "".join(f' x{n}="{x:.1f}" y{n}="{y:.1f}"' for n, (x, y) in enumerate((start, stop), 1))
    return f'<line{ends} stroke="#dddddd"/>'


def _text(text: str, x: float, y: float, anchor: str, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
