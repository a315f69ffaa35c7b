"""Predictions on the test sets of a leaderboard → the files of a submission, and a zip of these files.

`main` gets a table of the leaderboard: a `Part` for each file name.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import UserError, os_errors
from data_utils.files import read_lines, replacing

Prediction = tuple[tuple[int, ...], str]  # the numbers of a row's uid, and the answer


SCORE_RANGE = (0.0, 5.0)  # the range of STS-B, the only regression task


@dataclass(frozen=True)
class Part:
    """One file of the submission. `write` writes it.

    `rows`: the size of the official test set. `labels`: the labels that may be predicted. None: real numbers. (): any
    text. `levels`: how many numbers a uid has, with - between them.
    """

    predictions: str
    rows: int
    labels: tuple[str, ...] | None
    write: Callable[[Path, Sequence[Prediction]], object]
    levels: int = 1


def write_submission(
    parts: Mapping[str, Part], directories: Sequence[Path], output: Path, *, allow_missing: bool = False
) -> tuple[list[str], list[str]]:
    """Writes the files and `submission.zip`, after all predictions have been read.

    Returns the names of the files and, with `allow_missing`, one warning for each file whose rows differ from the test
    set. Raises UserError for missing or wrong predictions.
    """
    found = {name: find_predictions(part, directories) for name, part in parts.items()}
    missing = [f"{parts[name].predictions}.jsonl" for name, path in found.items() if path is None]
    locations = ", ".join(map(str, directories))
    if len(missing) == len(parts):
        raise UserError(f"{locations}: none of {', '.join(missing)}")
    if missing and not allow_missing:
        raise UserError(f"{locations}: no {', '.join(missing)}; predict them, or pass --allow-missing")
    present = {name: path for name, path in found.items() if path}
    tables = {name: read_predictions(path, parts[name]) for name, path in present.items()}
    warnings = [
        warning
        for name, path in present.items()
        for warning in check_indices(path, [index for index, _ in tables[name]], parts[name])
    ]
    if warnings and not allow_missing:
        raise UserError(f"{'; '.join(warnings)}; predict all of them, or pass --allow-missing")
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            with replacing(output / name) as temporary:
                parts[name].write(temporary, rows)
        write_zip(output / "submission.zip", output, tables)
    return list(tables), warnings


def main(parts: Mapping[str, Part], *, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Runs the command line of a leaderboard's `submission.py`. Returns the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="folders with <task>_<split>.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="where the files and submission.zip go")
    parser.add_argument("--allow-missing", action="store_true", help="write what there are predictions for")
    options = parser.parse_args(arguments)
    try:
        names, warnings = write_submission(
            parts, options.predictions, options.output, allow_missing=options.allow_missing
        )
    except UserError as error:
        print(f"submission.py: {error}", file=sys.stderr)
        return 2
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{options.output / 'submission.zip'}: {', '.join(names)}")
    return 0


def find_predictions(part: Part, directories: Sequence[Path]) -> Path | None:
    """The file of predictions in one of the directories, or None. Raises UserError if two directories have one."""
    paths = [directory / f"{part.predictions}.jsonl" for directory in directories]
    found = [path for path in paths if path.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[1]}: {found[0]} is of the same test set; give only one")
    return found[0] if found else None


def read_predictions(path: Path, part: Part) -> list[Prediction]:
    """Reads (index, prediction) of each line, sorted by index. Raises UserError naming the line that is wrong."""
    rows = sorted(parse(line, part, f"{path}:{number}") for number, line in read_lines(path))
    if not rows:
        raise UserError(f"{path}: the file is empty")
    return rows


def parse(line: str, part: Part, location: str) -> Prediction:
    try:
        values = json.loads(line)
        index, prediction = tuple(map(int, str(values["uid"]).split("-"))), values["prediction"]
        if len(index) != part.levels:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        uid = "-".join("789"[: part.levels])
        raise UserError(f'{location}: expected an object such as {{"uid": "{uid}", "prediction": "1"}}') from None
    if part.labels is None:
        return index, as_score(prediction, location)
    if part.labels and str(prediction) not in part.labels:
        raise UserError(f"{location}: prediction {prediction!r} is none of {', '.join(part.labels)}")
    if not part.labels and not isinstance(prediction, str):
        raise UserError(f"{location}: prediction {prediction!r} is not text")
    return index, str(prediction)


def as_score(prediction: object, location: str) -> str:
    """A prediction as a real number in SCORE_RANGE. A number outside of it is moved to the nearest end."""
    try:
        score = float(str(prediction))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise UserError(f"{location}: prediction {prediction!r} is not a number")
    return f"{min(max(score, SCORE_RANGE[0]), SCORE_RANGE[1]):.3f}"


def check_indices(path: Path, indices: Sequence[tuple[int, ...]], part: Part) -> list[str]:
    """Compares the indices with the official test set. Returns one warning if they differ, else no warning."""
    found = set(indices)
    facts = {"rows": len(indices) if len(indices) != part.rows else 0, "twice": len(indices) - len(found)}
    official = f"{part.rows} rows"
    if part.levels == 1:
        expected = {(number,) for number in range(part.rows)}
        facts |= {"missing": len(expected - found), "unknown": len(found - expected)}
        official = f"the rows 0 to {part.rows - 1}"
    if not any(facts.values()):
        return []
    counts = ", ".join(f"{count} {name}" for name, count in facts.items() if count)
    return [f"{path}: {counts}; the official test set has {official}"]


def write_zip(path: Path, directory: Path, names: Iterable[str]) -> None:
    """Packs the files. The zip has no times in it, so it is the same for the same files."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), (directory / name).read_bytes(), zipfile.ZIP_DEFLATED)
