"""Draws figures as horizontal bars, in an SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from data_utils.errors import UserError, os_errors
from data_utils.files import replacing

LABEL, WIDTH, ROW = 220, 420, 22  # pixels: of the labels, of the longest bar, of the height of a bar


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
    longest = max(max(bar.value, bar.mark or 0) for bar in bars) or 1
    parts = [_text(8, 20, title, size=15)]
    for number, bar in enumerate(bars):
        top = 34 + number * ROW
        parts.append(_text(LABEL - 6, top + 14, bar.label, anchor="end"))
        width = bar.value / longest * WIDTH
        parts.append(f'<rect x="{LABEL}" y="{top}" width="{width:.1f}" height="{ROW - 6}" fill="#4878a8"/>')
        if bar.mark is not None:
            at = LABEL + bar.mark / longest * WIDTH
            parts.append(f'<path d="M{at:.1f} {top - 2}V{top + ROW - 4}" stroke="#c44e52" stroke-width="2"/>')
        parts.append(_text(LABEL + WIDTH + 10, top + 14, f"{bar.value:g}"))
    height = 34 + len(bars) * ROW
    parts.append(_text(8, height + 16, notes, size=11))
    size = f'width="{LABEL + WIDTH + 90}" height="{height + 26}"'
    body = "\n".join(parts)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">\n{body}\n</svg>\n'
    with os_errors(path, "cannot be written"), replacing(path) as temporary:
        temporary.write_text(svg, encoding="utf-8")


def _text(x: int, y: int, words: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'
