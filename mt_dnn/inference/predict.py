"""Reads rows from plain text."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_utils.errors import UserError


def read_text(source: str, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yields the rows of a text file as texts by column name. A line is a row, with tabs between its texts.

    ``source``: a path, or ``-`` for standard input. ``columns``: the columns of the task. If these are choices, a line
    may have more choices.

    Raises:
        UserError: the file is not text or empty, or a line has another number of fields.
    """
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not readable as UTF-8 text ({error})") from None
    if not text:
        raise UserError(f"{source}: the file is empty; write one row per line")
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        fields = line.split("\t")
        extra = range(len(columns), len(fields)) if "choice1" in columns else ()
        names = [*columns, *(f"choice{field - columns.index('choice1') + 1}" for field in extra)]
        if len(fields) != len(names):
            raise UserError(f"{source}:{number}: {len(fields)} tab-separated fields, the task takes {len(columns)}")
        yield dict(zip(names, fields, strict=True))
