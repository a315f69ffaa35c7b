"""Notices another ``data_utils`` in place of ours. Several projects use this name for a package or a folder."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

MARK = 'PART_OF = "mt-dnn"'  # stands in data_utils/__init__.py


def foreign_data_utils() -> str | None:
    """Says what to do if ``import data_utils`` finds another package than ours. None if it finds ours.

    Nothing of the other package is run.
    """
    found = find_spec("data_utils")
    file = None if found is None else found.origin
    if file is not None and MARK in Path(file).read_text(encoding="utf-8", errors="replace"):
        return None
    return (
        f"data_utils: {file or 'a folder'} is not that of mt-dnn, which cannot work with another package of this name. "
        f"Start in another folder; or run `{sys.executable} -m pip uninstall data-utils`, then "
        f"`{sys.executable} -m pip install --force-reinstall --no-deps mt-dnn`"
    )


def check_data_utils() -> None:
    """Raises ImportError if ``import data_utils`` finds another package than ours."""
    if (problem := foreign_data_utils()) is not None:
        raise ImportError(problem)
