"""The tallies of TAT over the epochs of a run: which wrong answers its model has given."""

from __future__ import annotations

import re
from pathlib import Path

from data_utils.errors import UserError, os_errors
from data_utils.files import LARGEST, read_json, read_text
from mt_dnn.analyses.answers import Record

FILE = re.compile(r"(?P<task>.+)-epoch-(?P<epoch>\d+)\.json")


def tally(run: Path, task: str | None = None) -> Record:
    """The tally after each epoch of a run (adversarial/tally.py).

    Args:
        task: the task. It may be left out if only one task has a tally.

    Raises:
        UserError: the run has no tally, or several tasks have one.
    """
    found: dict[str, dict[int, Path]] = {}
    for file in sorted((run / "adversary").glob("*.json")):
        if match := FILE.fullmatch(file.name):
            found.setdefault(match["task"], {})[int(match["epoch"])] = file
    if not found:
        raise UserError(f"{run}: no tallies; only runs with adversary.mode=tat write them, into adversary/")
    if task is None and len(found) > 1:
        raise UserError(f"{run}: {', '.join(found)} have tallies; choose one with --task")
    name = next(iter(found)) if task is None else task
    if name not in found:
        raise UserError(f"{run}: no tally of {name} (there: {', '.join(found)})")
    epochs = []
    for epoch, file in sorted(found[name].items()):
        with os_errors(file, "cannot be read"):
            content = read_json(read_text(file, most=LARGEST), str(file))
        try:
            labels, kept = content["labels"], {key: content[key] for key in ("counts", "probabilities")}
        except KeyError as error:
            raise UserError(f"{file}: no {error} in this file; is it a tally of the toolkit?") from None
        epochs.append({"epoch": epoch, **kept})
    return {"kind": "tally", "run": str(run), "task": name, "labels": labels, "epochs": epochs}
