"""Makes a run of a study, and keeps what is known of its attempts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_utils.errors import NotSaved, UserError
from mt_dnn.runs.checkpoint import CONTENT, files_of
from mt_dnn.runs.checkpoints import BEST, checkpoints, find_checkpoint, last_checkpoint, prune
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import FolderInUse, locked, write_json
from mt_dnn.runs.run import Hopeless, Run
from mt_dnn.studies.records import RECORD, Record, commit, failure_record, read_record, run_record, write_record

ATTEMPTS = 2  # a run that has failed so often is given up
SPENT = "spent.json"  # while a run is not finished: time of earlier starts, what went wrong in them, who makes it
KEEP = "keep"  # key of SPENT: the record is about to be written, and what stays of the weights then
USUAL_PREDICTIONS = {"splits": "labelled", "text": False}  # of runs whose record does not say it
LOCK = ".sweep.lock"  # held from the look at the record until the record is written


class Busy:
    """Another process is making the run."""


def make_run(
    config: RunConfig,
    keep: str,
    say: Callable[[str], None],
    *,
    label: str,
    received: Sequence[int] = (),
    shown: bool = False,
    hopeless: Hopeless = lambda *_: False,
) -> Record | int | type[Busy]:
    """Trains a run, or goes on with it, and writes its record. A run that has a record already is not made again.

    Args:
        keep: what stays of the weights, as in ``Study.keep``.
        label: what is said about the run.
        received: the signals that this process has received; after one of them the run does not begin.
        shown, hopeless: as in ``Run``.

    Returns:
        The record, or that of a failed attempt; the number of the signal that stopped the run; or ``Busy``.

    Raises:
        UserError: the run cannot begin.
        NotSaved: the disk is full.
    """
    folder = config.output
    try:
        with locked(folder, LOCK):
            _finish_forgetting(folder)
            made = kept_record(config, keep)
            if made is not None:
                return made
            _forget_outdated(folder)
            _note_process(folder, process_name(os.getpid()))
            commit()  # as the code is now: files may change while the run trains
            try:
                run = Run(config, shown=shown, hopeless=hopeless)
            except UserError as error:
                _note_process(folder, None)
                if isinstance(error, FolderInUse):
                    return Busy
                if _is_untouched(folder):
                    shutil.rmtree(folder)
                raise type(error)(f"{label}: {error}") from None
            except Exception as problem:  # such as no memory for the model
                return _failed(config, one_line(problem), _read_spent(folder), say)
            if received:
                _note_process(folder, None)
                return received[0]
            say(f"{config.name}: {label}")
            return _train(run, keep, say)
    except FolderInUse:
        return Busy


def kept_record(config: RunConfig, keep: str) -> Record | None:
    """The record of a run. None if it is not finished, or lacks weights that ``keep`` or predictions that it asks for.

    So a study that keeps weights makes a run again whose weights another study has not kept.
    """
    folder = config.output
    record = read_record(folder)
    if record is None or "error" in record:
        return record
    if _lacks_predictions(config, record) or KEEP in _read_spent(folder):
        return None
    if keep == "nothing":
        return record
    last = last_checkpoint(folder)
    complete = last is not None and (keep == "model" or (last / "trainer").exists())
    return record if complete and not (folder / SPENT).exists() else None


def forget_weights(folder: Path, keep: str) -> None:
    """Removes weights of a finished run. ``keep``: as in ``Study.keep``."""
    kept = find_checkpoint(folder) if keep != "nothing" and checkpoints(folder) else None
    prune(folder, [] if kept is None else [step for step, path in checkpoints(folder).items() if path == kept])
    if kept is None and (folder / BEST).is_symlink():
        (folder / BEST).unlink()
    if kept is not None and keep == "model":
        shutil.rmtree(kept / "trainer", ignore_errors=True)


def one_line(problem: Exception) -> str:
    """What went wrong, as one line."""
    text = str(problem) if isinstance(problem, UserError) else f"{type(problem).__name__}: {problem}"
    return " ".join(text.split())[:500]


def note_death(config: RunConfig, process: str, error: str, say: Callable[[str], None]) -> bool:
    """Notes a failed attempt if a process that has died was making the run.

    Args:
        process: the result of ``process_name`` for it.
        error: one line.

    Returns:
        Whether it was making the run.
    """
    if not (config.output / SPENT).exists():
        return False
    try:
        with locked(config.output, LOCK):
            spent = _read_spent(config.output)
            if spent["process"] != process:
                return False
            _failed(config, error, spent, say)
            return True
    except FolderInUse:  # another process goes on with it already
        return False


def process_name(number: int) -> str:
    """Names a process of this machine among those of all machines."""
    return f"{socket.gethostname()}:{number}"


def _forget_outdated(folder: Path) -> None:
    """Removes the model of a finished run that is made again, because the state of its training was not kept."""
    last = last_checkpoint(folder)
    if last is None or not (folder / RECORD).exists() or (last / "trainer").exists():
        return
    if {Path(name).parts[0] for name in files_of(last)} <= CONTENT:  # else a file of the user is there
        shutil.rmtree(last)


def _train(run: Run, keep: str, say: Callable[[str], None]) -> Record | int:
    config, spent = run.config, _read_spent(run.config.output)
    started, cpu_started = time.monotonic(), time.process_time()
    failure, summary = "", None
    try:
        summary = run()
    except (FolderInUse, NotSaved):
        raise
    except Exception as problem:  # a run that diverges, or does not fit into memory, is named and not a reason to stop
        failure = one_line(problem)
    spent["seconds"] = round(spent["seconds"] + time.monotonic() - started, 1)
    spent["cpu_seconds"] = round(spent["cpu_seconds"] + time.process_time() - cpu_started, 1)
    if summary is None:
        return _failed(config, failure, spent, say)
    if isinstance(summary, int):
        write_json(config.output / SPENT, {**spent, "process": None})
        return summary
    record = run_record(config, summary, {name: spent[name] for name in ("seconds", "cpu_seconds")})
    write_json(config.output / SPENT, {**spent, "process": None, KEEP: keep})
    write_record(config.output, record)
    _finish_forgetting(config.output)
    return record


def _finish_forgetting(folder: Path) -> None:
    """Removes the weights of a run that has a record, as its last process meant to, which may have been killed."""
    keep = _read_spent(folder).get(KEEP)
    if keep is not None and (folder / RECORD).exists():
        forget_weights(folder, keep)
        (folder / SPENT).unlink()


def _is_untouched(folder: Path) -> bool:
    """Whether a folder has nothing but what ``make_run`` writes before a run begins."""
    return {path.name for path in folder.iterdir()} <= {LOCK, SPENT}


def _lacks_predictions(config: RunConfig, record: Record) -> bool:
    """Whether a run has written fewer predictions than its configuration asks for, which is no part of its hash."""
    wanted, written = config.evaluation.predicted, record.get("predictions", USUAL_PREDICTIONS)
    if wanted is None:
        return False
    if written is None:
        return True
    return (wanted.splits == "all" and written["splits"] != "all") or (wanted.text and not written["text"])


def _failed(config: RunConfig, error: str, spent: dict[str, Any], say: Callable[[str], None]) -> Record:
    """Notes a failed attempt. After the last attempt the run has a record, which says so."""
    spent["errors"].append(error)
    record = failure_record(config, error, len(spent["errors"]))
    if len(spent["errors"]) < ATTEMPTS:
        say(f"{config.name}: failed, and is tried again: {error}")
        write_json(config.output / SPENT, {**spent, "process": None})
    else:
        say(
            f"{config.name}: failed {ATTEMPTS} times and is given up: {error}. "
            f"To try it again, remove {config.output / RECORD}"
        )
        write_record(config.output, record)
        (config.output / SPENT).unlink(missing_ok=True)
    return record


def _note_process(folder: Path, process: str | None) -> None:
    """Notes which process makes the run."""
    spent = {key: value for key, value in _read_spent(folder).items() if key != KEEP}
    write_json(folder / SPENT, {**spent, "process": process})


def _read_spent(folder: Path) -> dict[str, Any]:
    file = folder / SPENT
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {"seconds": 0.0, "cpu_seconds": 0.0, "errors": [], "process": None, **known}
