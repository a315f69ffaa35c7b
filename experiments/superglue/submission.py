"""Predictions on SuperGLUE's test sets → the files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_utils.errors import UserError
from data_utils.submission import Part, check_indices, find_predictions, read_predictions, write_zip

TRUTH = ("false", "true")
PARTS = {
    "BoolQ.jsonl": Part("boolq_test", 3245, TRUTH),
    "CB.jsonl": Part("cb_test", 250, ("contradiction", "entailment", "neutral")),
    "COPA.jsonl": Part("copa_test", 500, ("1", "2")),
    "RTE.jsonl": Part("rte_superglue_test", 3000, ("not_entailment", "entailment")),
    "WiC.jsonl": Part("wic_test", 1400, TRUTH),
    "WSC.jsonl": Part("wsc_test", 146, TRUTH),
}
# The leaderboard counts COPA's choices from 0 and capitalises the truth in WSC alone.
SPELLINGS: dict[str, Callable[[str], object]] = {
    "COPA.jsonl": lambda choice: int(choice) - 1,
    "WSC.jsonl": lambda truth: truth.capitalize(),
}


def write_submission(directories: Sequence[Path], output: Path) -> tuple[list[str], list[str]]:
    """Writes the files and `submission.zip`; nothing is written unless all predictions could be read.

    Returns the names written and the warnings. Raises UserError for no predictions, or wrong ones.
    """
    found = {name: find_predictions(part, directories) for name, part in PARTS.items()}
    present = {name: path for name, path in found.items() if path}
    if not present:
        names = ", ".join(f"{part.predictions}.jsonl" for part in PARTS.values())
        raise UserError(f"{', '.join(map(str, directories))}: none of {names}")
    tables = {name: read_predictions(path, PARTS[name]) for name, path in present.items()}
    indices = {name: [index for index, _ in rows] for name, rows in tables.items()}
    warnings = [line for name, path in present.items() for line in check_indices(path, indices[name], PARTS[name])]
    if absent := [name for name, path in found.items() if path is None]:
        warnings.append(f"no predictions for {', '.join(absent)}")
    output.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        spell = SPELLINGS.get(name, str)
        lines = [json.dumps({"idx": index, "label": spell(prediction)}) for index, prediction in rows]
        temporary = output / f".{name}.tmp"
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(output / name)
    write_zip(output / "submission.zip", output, tables)
    return list(tables), warnings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="folders with <task>_test.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="where the files and submission.zip go")
    options = parser.parse_args(arguments)
    try:
        names, warnings = write_submission(options.predictions, options.output)
    except UserError as error:
        print(f"submission.py: {error}", file=sys.stderr)
        return 2
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{options.output / 'submission.zip'}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
