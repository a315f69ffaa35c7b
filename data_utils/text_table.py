"""Tables for people, in plain text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_utils.errors import printable


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table with a header line and a rule below it. The first column is aligned left, all others right.

    Cells are ``printable``.
    """
    header, rows = [*map(printable, header)], [[*map(printable, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(cells, widths) for cells in [header, rule, *rows])


def markdown(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown. Cells are written by ``str``."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
