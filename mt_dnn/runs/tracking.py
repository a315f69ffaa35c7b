"""Hands the records of a run's log to trackers of experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from data_utils.errors import UserError
from data_utils.files import read_text
from data_utils.secret_texts import without_secrets
from mt_dnn.distributed.ranks import say
from mt_dnn.runs.folder import write_json
from mt_dnn.runs.trackers import TRACKERS, Ending, Numbers, TrackedRun, Tracker, check_installed

STATE = "tracking.json"  # for each tracker its id of the run, and how many records of the log were handed to it


class Tracking:
    """The trackers of a run. No number reaches one twice, also if the run is cut off and resumes.

    A tracker is opened with its first record. One that fails is said once and left out from then on, while training
    goes on.

    Args:
        names: of the trackers, keys of TRACKERS.
        run: what they are told of the run.
        records: those in the log of a run that resumes, up to its last checkpoint.

    Raises:
        UserError: the package of a tracker is not installed.
    """

    def __init__(self, names: Sequence[str], run: TrackedRun, records: Sequence[Mapping[str, Any]] = ()) -> None:
        check_installed(names)
        self.run, self.pending = run, {name: list(records) for name in names}
        self._open: dict[str, Tracker] = {}
        self._state: dict[str, dict[str, Any]] = self._read_state()
        for name in names:
            handed = self._state.get(name, {}).get("records", 0)
            if handed > len(records):  # the run has begun again since
                del self._state[name]
                handed = 0
            if TRACKERS[name].revises:
                handed = len(records)
            del self.pending[name][:handed]

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes a new record of the log."""
        for name, pending in list(self.pending.items()):
            pending.append(record)
            if TRACKERS[name].revises:
                self._hand(name)

    def commit(self) -> None:
        """Hands over all records so far. Call it when a checkpoint is saved, so that no restart repeats them."""
        for name in list(self.pending):
            self._hand(name)

    def close(self, ending: Ending) -> None:
        """Closes all trackers. Records since the last checkpoint are not handed over."""
        for name, tracker in list(self._open.items()):
            try:
                tracker.close(ending)
            except Exception as error:
                self._give_up(name, error)
        self._open, self.pending = {}, {}

    def _hand(self, name: str) -> None:
        """Hands the pending records to a tracker."""
        records = self.pending[name]
        if not records:
            return
        try:
            if name not in self._open:
                known = self._state.get(name, {})
                self._open[name] = TRACKERS[name](replace(self.run, id=known.get("id")))
            tracker = self._open[name]
            if not tracker.revises:  # noted before, so that a kill in between does not hand them over twice
                handed = self._state.get(name, {}).get("records", 0) + len(records)
                self._state[name] = {"id": tracker.id, "records": handed}
                write_json(self.run.folder / STATE, self._state)
            tracker.add([numbers_of(record) for record in records])
            records.clear()
        except Exception as error:  # each package raises many kinds
            self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        say(
            f"log.trackers: {name} has failed ({reason}); the run goes on without it, and metrics.jsonl has all numbers"
        )
        self._open.pop(name, None)
        self.pending.pop(name, None)

    def _read_state(self) -> dict[str, dict[str, Any]]:
        """What was noted of each tracker. Nothing, if the file is not there or no longer what was written."""
        try:
            state = json.loads(read_text(self.run.folder / STATE))
            return {name: {"id": str(known["id"]), "records": int(known["records"])} for name, known in state.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, UserError):
            return {}


def numbers_of(record: Mapping[str, Any]) -> Numbers:
    """The update of a record and its numbers by name, such as ``evaluation/scores/rte/dev/accuracy``."""
    values = dict(_flat({key: value for key, value in record.items() if key != "step"}))
    return record["step"], {f"{record['event']}/{name}": value for name, value in values.items()}


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of nested mappings by dotted key, without secrets."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{below}": item for below, item in settings_of(value).items()}
        else:
            found[key] = _without_secrets(value)
    return found


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def _flat(record: Any, prefix: str = "") -> list[tuple[str, float]]:
    if isinstance(record, Mapping):
        return [pair for key, value in record.items() for pair in _flat(value, f"{prefix}/{key}" if prefix else key)]
    return [(prefix, float(record))] if isinstance(record, int | float) else []
