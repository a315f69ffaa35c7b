"""What stays of the weights of a finished run, and for how long."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from data_utils.errors import UserError, os_errors
from data_utils.files import read_text
from mt_dnn.runs.checkpoint import CONTENT, files_of
from mt_dnn.runs.checkpoints import checkpoints, find_checkpoint, forget_checkpoints, last_checkpoint, prune
from mt_dnn.runs.folder import FolderInUse, locked, write_json
from mt_dnn.studies.records import RECORD

LOCK = ".sweep.lock"  # held from the look at the record until the record is written
# Names of the runs that start from this one. Its weights stay until each of them has a record. Without this file the
# weights are of a study that keeps them.
AWAITED = "awaited.json"


def has_weights(folder: Path, keep: str) -> bool:
    """Whether a finished run has what ``keep`` asks for, as in ``Study.keep``."""
    last = last_checkpoint(folder)
    return keep == "nothing" or (last is not None and (keep == "model" or (last / "trainer").exists()))


def forget_weights(folder: Path, keep: str) -> None:
    """Removes weights of a finished run. ``keep``: as in ``Study.keep``."""
    if keep == "nothing" or not checkpoints(folder):
        forget_checkpoints(folder)
        return
    kept = find_checkpoint(folder)
    prune(folder, [step for step, path in checkpoints(folder).items() if path == kept])
    if keep == "model":
        shutil.rmtree(kept / "trainer", ignore_errors=True)


def forget_model(folder: Path) -> None:
    """Removes the model of a finished run of which the state of its training was not kept."""
    last = last_checkpoint(folder)
    if last is None or not (folder / RECORD).exists() or (last / "trainer").exists():
        return
    if {Path(name).parts[0] for name in files_of(last)} <= CONTENT:  # else a file of the user is there
        shutil.rmtree(last.rename(last.with_name(f".{last.name}.old")))  # half removed, it does not look complete


def awaited(folder: Path) -> set[str] | None:
    """The runs that the weights of a run stay for. None if they are kept for good, or not at all."""
    file = folder / AWAITED
    if not file.exists():
        return None
    with os_errors(file, "cannot be read"):
        try:
            return set(json.loads(read_text(file)))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{file}: is damaged ({error}); remove it") from None


def is_noted(folder: Path, keep: str, names: Iterable[str]) -> bool:
    """Whether it is noted how long the weights have to stay: ``note`` would change nothing."""
    known = awaited(folder)
    return known is None or (keep == "nothing" and set(names) <= known)


def note(folder: Path, keep: str, names: Iterable[str]) -> None:
    """Notes how long the weights of a run have to stay.

    Args:
        keep: as in ``Study.keep``.
        names: the runs that start from it and are not done.
    """
    known = awaited(folder)
    if keep != "nothing":
        (folder / AWAITED).unlink(missing_ok=True)
    elif names and (known is not None or not _kept_for_good(folder)):
        write_json(folder / AWAITED, sorted({*names, *(known or ())}))


def release(folder: Path) -> None:
    """Removes the weights of a run that stayed for other runs, if each of these has a record."""
    if awaited(folder) is None:
        return
    try:
        with locked(folder, LOCK):
            names = awaited(folder)
            if names is not None and all((folder.parent / name / RECORD).exists() for name in names):
                forget_weights(folder, "nothing")
                forget_model(folder)
                (folder / AWAITED).unlink()
    except FolderInUse:  # another process makes it, or removes the weights
        return


def _kept_for_good(folder: Path) -> bool:
    """Whether a finished run without AWAITED has weights, which another study keeps then."""
    return (folder / RECORD).exists() and has_weights(folder, "model")
