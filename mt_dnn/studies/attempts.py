"""What is known of the attempts of a run that is not finished: time, failures, and which process makes it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, os_errors
from data_utils.files import read_text
from mt_dnn.runs.folder import FolderInUse, locked, write_json
from mt_dnn.studies.identity import Identity
from mt_dnn.studies.record_form import SpentForm, check_form
from mt_dnn.studies.records import RECORD, Record, failure_record, read_record, write_record
from mt_dnn.studies.weights import LOCK

ATTEMPTS = 2  # a run that has failed so often is given up
SPENT = "spent.json"  # while a run is not finished: time of earlier starts, what went wrong in them, who makes it
KEEP = "keep"  # key of SPENT: the record is about to be written, and what stays of the weights then
REMEDY = "remove it, then the time spent so far is lost"
TIMES = ("seconds", "cpu_seconds", "cut_off")  # keys that a record has too


def read_spent(folder: Path) -> dict[str, Any]:
    """What is known of the attempts of a run.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / SPENT
    content: dict[str, Any] = {}
    if file.exists():
        with os_errors(file, "cannot be read"):
            try:
                content = json.loads(read_text(file))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{file}: is damaged ({error}); {REMEDY}") from None
        check_form(SpentForm, content, f"{file}: is damaged", REMEDY)
    return {**SpentForm().model_dump(), **content}


def times(spent: dict[str, Any]) -> dict[str, float]:
    """The times for a record. ``cut_off``, where it is not 0: how many processes were killed.

    ``seconds`` counts each of these until the last line of its log, ``cpu_seconds`` does not count them.
    """
    return {name: spent[name] for name in TIMES if spent[name] or name != "cut_off"}


def process_name(number: int) -> str:
    """Names a process of this machine among those of all machines."""
    return f"{socket.gethostname()}:{number}"


def begin(folder: Path) -> None:
    """Notes that this process makes the run. The folder has to be locked, so that an earlier one has ended."""
    spent = _with_lost_time(folder, read_spent(folder))
    spent.pop(KEEP, None)
    write_json(folder / SPENT, {**spent, "process": process_name(os.getpid()), "since": time.time()})


def end(folder: Path, spent: dict[str, Any] | None = None, **further: Any) -> None:
    """Notes that no process makes the run. ``spent``: what is known now; default: what was known before."""
    write_json(folder / SPENT, {**(read_spent(folder) if spent is None else spent), **further, "process": None})


def failed(run: Identity, error: str, spent: dict[str, Any], say: Callable[[str], None]) -> Record:
    """Notes a failed attempt. After the last attempt the run has a record, which says so.

    A finished run that was made again, because its weights were gone, keeps its record. Then SPENT stays and says it.
    """
    folder, name = run.config.output, run.config.name
    spent["errors"].append(error)
    record = failure_record(run, error, len(spent["errors"]))
    if len(spent["errors"]) < ATTEMPTS:
        say(f"{name}: failed, and is tried again: {error}")
        end(folder, spent)
    elif is_finished(folder):
        say(
            f"{name}: has finished, but failed {ATTEMPTS} times when it was made again: {error}; its record stays. "
            f"To try it again, remove {folder / SPENT}"
        )
        end(folder, spent)
    else:
        say(f"{name}: failed {ATTEMPTS} times and is given up: {error}. To try it again, remove {folder / RECORD}")
        write_record(folder, record)
        (folder / SPENT).unlink(missing_ok=True)
    return record


def failure(folder: Path) -> str | None:
    """Why the run in a folder was given up. None if it was not.

    Of a finished run it is why it could not be made again.
    """
    record = read_record(folder)
    if record is None:
        return None
    if "error" in record:
        return record["error"]
    errors = read_spent(folder)["errors"]
    return errors[-1] if len(errors) >= ATTEMPTS else None


def is_finished(folder: Path) -> bool:
    """Whether a run has a record that is not that of a failure."""
    record = read_record(folder)
    return record is not None and "error" not in record


def note_death(run: Identity, process: str, error: str, say: Callable[[str], None]) -> bool:
    """Notes a failed attempt if a process that has died was making the run.

    Args:
        process: the result of ``process_name`` for it.
        error: one line.

    Returns:
        Whether it was making the run.
    """
    folder = run.config.output
    if not (folder / SPENT).exists():
        return False
    try:
        with locked(folder, LOCK):
            spent = read_spent(folder)
            if spent["process"] != process:
                return False
            failed(run, error, _with_lost_time(folder, spent), say)
            return True
    except FolderInUse:  # another process goes on with it already
        return False


def _with_lost_time(folder: Path, spent: dict[str, Any]) -> dict[str, Any]:
    """Adds the time of a process that has not noted its end, until the last line of its log."""
    if spent["process"] is None:
        return spent
    log = folder / "metrics.jsonl"
    lost = max(log.stat().st_mtime - spent["since"], 0) if log.exists() and spent["since"] else 0
    return {**spent, "seconds": round(spent["seconds"] + lost, 1), "cut_off": spent["cut_off"] + 1}
