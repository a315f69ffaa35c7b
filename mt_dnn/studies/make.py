"""Makes a run of a study."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from data_utils.errors import NotSaved, UserError
from data_utils.secret_texts import without_secrets
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.folder import SOFT, FolderInUse, locked
from mt_dnn.runs.run import Hopeless, Run
from mt_dnn.studies.attempts import KEEP, SPENT, begin, end, failed, failure, read_spent, times
from mt_dnn.studies.identity import Identity
from mt_dnn.studies.records import (
    RECORD,
    Located,
    Record,
    check_is_of,
    commit,
    failure_record,
    read_record,
    run_record,
    write_record,
)
from mt_dnn.studies.weights import AWAITED, LOCK, awaited, forget_model, forget_weights, has_weights, is_noted, note

USUAL_PREDICTIONS = {"splits": "labelled", "text": False}  # of runs whose record does not say it


class Busy:
    """Another process is making the run."""


def make_run(
    run: Identity,
    keep: str,
    say: Callable[[str], None],
    *,
    label: str,
    starting: Collection[str] = (),
    received: Sequence[int] = (),
    shown: bool = False,
    hopeless: Hopeless = lambda *_: False,
) -> Record | int | type[Busy]:
    """Trains a run, or goes on with it, and writes its record. A run that has a record already is not made again.

    Args:
        run: what it computes, with a name and a folder in its configuration.
        keep: what stays of the weights, as in ``Study.keep``.
        label: what is said about the run.
        starting: the names of the runs that start from it and are not done; its weights stay for them.
        received: the signals that this process has received; after one of them the run does not begin.
        shown, hopeless: as in ``Run``.

    Returns:
        The record, or that of a failed attempt; the number of the signal that stopped the run; or ``Busy``.

    Raises:
        UserError: the run cannot begin.
        NotSaved: the disk is full.
    """
    config, folder = run.config, run.config.output
    try:
        with locked(folder, LOCK):
            _finish_forgetting(folder)
            note(folder, keep, starting)
            made = kept_record(run, keep, starting)
            if made is not None:
                return made
            forget_model(folder)  # it is made again
            begin(folder)
            commit()  # as the code is now: files may change while the run trains
            try:
                training = Run(config, shown=shown, hopeless=hopeless)
            except UserError as error:
                end(folder)
                if isinstance(error, FolderInUse):
                    return Busy
                if _is_untouched(folder):
                    shutil.rmtree(folder)
                raise type(error)(f"{label}: {error}") from None
            except Exception as problem:  # such as no memory for the model
                return failed(run, one_line(problem), read_spent(folder), say)
            if received:
                end(folder)
                return received[0]
            say(f"{config.name}: {label}")
            return _train(training, run, keep, say)
    except FolderInUse:
        return Busy


def kept_record(
    run: Identity, keep: str, starting: Collection[str] = (), *, restored: Located | None = None
) -> Record | None:
    """The record of a run, if nothing is left to do for it. ``restored``: its record if its folder has none yet.

    None if it is not finished, or lacks predictions that it asks for, or weights that ``keep`` or the runs ``starting``
    from it need. So a study that keeps weights makes a run again whose weights another study has not kept, unless that
    has failed as often as a run may fail. Nor does a failure count that was the failure of the run before it, if that
    has been mended.

    Raises:
        UserError: the record is damaged, or that of another run.
    """
    config, folder = run.config, run.config.output
    record, location = read_record(folder), str(folder / RECORD)
    if record is None:
        if restored is None:
            return None
        location, record = restored
    check_is_of(record, location, run)
    if "error" in record:
        return record if record.get("attempts", 1) or _has_failed(config.train.init_from) else None
    if failure(folder) is not None:  # it could not be made again
        return record
    if _lacks_predictions(config, record) or KEEP in read_spent(folder):
        return None
    if keep == "nothing" and not starting:
        return record
    complete = has_weights(folder, "model" if keep == "nothing" else keep) and not (folder / SPENT).exists()
    return record if complete and is_noted(folder, keep, starting) else None


def give_up(run: Identity, say: Callable[[str], None]) -> None:
    """Writes the record of a run that cannot be made, because the run that it starts from has failed."""
    folder, source = run.config.output, run.config.train.init_from
    reason = None if source is None else failure(source)
    if source is None or reason is None:
        return
    try:
        with locked(folder, LOCK):
            if read_record(folder) is None:
                error = f"starts from {source.name}, which failed: {reason}"
                say(f"{run.config.name}: {error}")
                write_record(folder, failure_record(run, error, 0))
    except FolderInUse:  # another process writes it
        return


def one_line(problem: Exception) -> str:
    """What went wrong, as one line."""
    text = str(problem) if isinstance(problem, UserError) else f"{type(problem).__name__}: {problem}"
    return without_secrets(" ".join(text.split()))[:500]


def _train(training: Run, run: Identity, keep: str, say: Callable[[str], None]) -> Record | int:
    folder, spent = run.config.output, read_spent(run.config.output)
    started, cpu_started = time.monotonic(), time.process_time()
    error, summary = "", None
    try:
        summary = training()
    except (FolderInUse, NotSaved):
        raise
    except Exception as problem:  # a run that diverges, or does not fit into memory, is named and not a reason to stop
        error = one_line(problem)
    spent["seconds"] = round(spent["seconds"] + time.monotonic() - started, 1)
    spent["cpu_seconds"] = round(spent["cpu_seconds"] + time.process_time() - cpu_started, 1)
    if summary is None:
        return failed(run, error, spent, say)
    if isinstance(summary, int):
        end(folder, spent)
        return summary
    record = run_record(run, summary, times(spent))
    kept = "model" if keep == "nothing" and awaited(folder) is not None else keep
    end(folder, spent, **{KEEP: kept})
    write_record(folder, record)
    _finish_forgetting(folder)
    return record


def _finish_forgetting(folder: Path) -> None:
    """Removes the weights of a run that has a record, as its last process meant to, which may have been killed."""
    keep = read_spent(folder).get(KEEP)
    if keep is not None and (folder / RECORD).exists():
        forget_weights(folder, keep)
        (folder / SPENT).unlink()


def _has_failed(folder: Path | None) -> bool:
    return folder is not None and failure(folder) is not None


def _is_untouched(folder: Path) -> bool:
    """Whether a folder has nothing but what ``make_run`` writes before a run begins."""
    return {path.name for path in folder.iterdir()} <= {LOCK, f"{LOCK}{SOFT}", SPENT, AWAITED}


def _lacks_predictions(config: RunConfig, record: Record) -> bool:
    """Whether a run has written fewer predictions than its configuration asks for, which is no part of its hash."""
    wanted, written = config.evaluation.predicted, record.get("predictions", USUAL_PREDICTIONS)
    if wanted is None:
        return False
    if written is None:
        return True
    return (wanted.splits == "all" and written["splits"] != "all") or (wanted.text and not written["text"])
