"""Files laid out as others distribute them, and canonical files read without the product's own reader."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def lay_out(directory: Path, files: Mapping[str, str]) -> Path:
    """Writes `files`, relative name → text, byte for byte."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return directory


def table(path: Path) -> list[list[str]]:
    """The lines of a TSV file, split at tabs and nothing else."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
