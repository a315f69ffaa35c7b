"""Predictions on GLUE's test sets → the eleven files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_utils.errors import UserError
from data_utils.rows import write_rows
from data_utils.submission import Part, check_indices, find_predictions, read_predictions, write_zip

BINARY = ("0", "1")
TWO_WAY = ("entailment", "not_entailment")
THREE_WAY = ("entailment", "neutral", "contradiction")
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
