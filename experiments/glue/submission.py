"""Predictions on GLUE's test sets → the eleven files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import argparse
import json
import math
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import UserError
from data_utils.rows import write_rows
from data_utils.tables import read_lines

BINARY = ("0", "1")
TWO_WAY = ("entailment", "not_entailment")
THREE_WAY = ("entailment", "neutral", "contradiction")
SCORE_RANGE = (0.0, 5.0)


@dataclass(frozen=True)
class Part:
    """One file of the submission. `rows`: size of the official test set; `labels`: None for real numbers."""

    predictions: str
    rows: int
    labels: tuple[str, ...] | None


PARTS = {
    "CoLA.tsv": Part("cola_test", 1063, BINARY),
    "SST-2.tsv": Part("sst2_test", 1821, BINARY),
    "MRPC.tsv": Part("mrpc_test", 1725, BINARY),
    "STS-B.tsv": Part("stsb_test", 1379, None),
    "QQP.tsv": Part("qqp_test", 390965, BINARY),
    "MNLI-m.tsv": Part("mnli_test_matched", 9796, THREE_WAY),
    "MNLI-mm.tsv": Part("mnli_test_mismatched", 9847, THREE_WAY),
    "QNLI.tsv": Part("qnli_test", 5463, TWO_WAY),
    "RTE.tsv": Part("rte_test", 3000, TWO_WAY),
    "WNLI.tsv": Part("wnli_test", 146, BINARY),
    "AX.tsv": Part("ax_test", 1104, THREE_WAY),
}


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


def write_submission(
    directories: Sequence[Path], output: Path, *, allow_missing: bool = False
) -> tuple[list[str], list[str]]:
    """Writes the files and `submission.zip`; nothing is written unless all predictions could be read.

    Returns the names written and the warnings. Raises UserError for missing or wrong predictions.
    """
    found = {name: find_predictions(part, directories) for name, part in PARTS.items()}
    missing = [f"{PARTS[name].predictions}.jsonl" for name, path in found.items() if path is None]
    if missing and (not allow_missing or len(missing) == len(PARTS)):
        places = ", ".join(map(str, directories))
        raise UserError(f"{places}: no {', '.join(missing)}; predict them, or pass --allow-missing")
    present = {name: path for name, path in found.items() if path}
    tables = {name: read_predictions(path, PARTS[name]) for name, path in present.items()}
    warnings = [
        warning
        for name, path in present.items()
        for warning in check_indices(path, [index for index, _ in tables[name]], PARTS[name])
    ]
    output.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        lines = ({"index": str(index), "prediction": prediction} for index, prediction in rows)
        write_rows(output / name, lines, ["index", "prediction"])
    write_zip(output / "submission.zip", output, tables)
    return list(tables), warnings


def write_zip(path: Path, directory: Path, names: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(directory / name, arcname=name)
    temporary.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="folders with <task>_<split>.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="where the files and submission.zip go")
    parser.add_argument("--allow-missing", action="store_true", help="write the files that can be written")
    options = parser.parse_args(arguments)
    try:
        names, warnings = write_submission(options.predictions, options.output, allow_missing=options.allow_missing)
    except UserError as error:
        print(f"submission.py: {error}", file=sys.stderr)
        return 2
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{options.output / 'submission.zip'}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
