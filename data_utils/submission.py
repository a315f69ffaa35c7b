"""Predictions on the test sets of a leaderboard, read and checked before a submission is written."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import UserError
from data_utils.tables import read_lines

SCORE_RANGE = (0.0, 5.0)  # of STS-B, the one regression task


@dataclass(frozen=True)
class Part:
    """One file of the submission. `rows`: size of the official test set; `labels`: None for real numbers."""

    predictions: str
    rows: int
    labels: tuple[str, ...] | None


def find_predictions(part: Part, directories: Sequence[Path]) -> Path | None:
    """Raises UserError when two directories hold predictions for the same test set."""
    paths = [directory / f"{part.predictions}.jsonl" for directory in directories]
    found = [path for path in paths if path.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[1]}: {found[0]} is of the same test set, give only one")
    return found[0] if found else None


def read_predictions(path: Path, part: Part) -> list[tuple[int, str]]:
    """(index, prediction) of each line, sorted by index. Raises UserError naming the line that is wrong."""
    return sorted(parse(line, part, f"{path}:{number}") for number, line in read_lines(path))


def parse(line: str, part: Part, place: str) -> tuple[int, str]:
    try:
        values = json.loads(line)
        index, prediction = int(values["uid"]), values["prediction"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{place}: expected an object such as {{"uid": "7", "prediction": "1"}}') from None
    if part.labels is None:
        return index, as_score(prediction, place)
    if str(prediction) not in part.labels:
        raise UserError(f"{place}: prediction {prediction!r} is none of {', '.join(part.labels)}")
    return index, str(prediction)


def as_score(prediction: object, place: str) -> str:
    """A real number in GLUE's range: what a regression predicts beyond its ends is moved to them."""
    try:
        score = float(str(prediction))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{place}: prediction {prediction!r} is not a number")
    return f"{min(max(score, SCORE_RANGE[0]), SCORE_RANGE[1]):.3f}"


def check_indices(path: Path, indices: Sequence[int], part: Part) -> list[str]:
    """One warning when the indices are not 0, 1, … to the official number of rows."""
    expected, found = set(range(part.rows)), set(indices)
    facts = {
        "rows": len(indices) if len(indices) != part.rows else 0,
        "twice": len(indices) - len(found),
        "missing": len(expected - found),
        "unknown": len(found - expected),
    }
    if not any(facts.values()):
        return []
    counts = ", ".join(f"{count} {name}" for name, count in facts.items() if count)
    return [f"{path}: {counts}; the official test set has the rows 0 to {part.rows - 1}"]


def write_zip(path: Path, directory: Path, names: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(directory / name, arcname=name)
    temporary.replace(path)
