"""Rows from plain text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_utils.errors import UserError


def read_text(source: str, columns: Sequence[str], *, more: bool) -> Any:
    """Rows from a file or stdin: one a line, as many tab-separated fields as the task has sentences, or ``more``."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: not readable as UTF-8 text ({error})") from None
    if not text:
        raise UserError(f"{source}: empty; write one row a line")
    lines = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    widest = max(map(len, lines)) if more else len(columns)
    columns = [*columns, *(f"choice{number}" for number in range(len(columns), widest))]
    for number, fields in enumerate(lines, 1):
        if len(fields) != len(columns) and not (more and len(fields) > 2):
            raise UserError(f"{source}:{number}: {len(fields)} tab-separated fields, the task takes {len(columns)}")
        yield {
            "uid": str(number),
            "label": "",
            **dict.fromkeys(columns, ""),
            **dict(zip(columns, fields, strict=False)),
        }
