"""The log of a run: metrics.jsonl, with one JSON object per line. Trackers get its records too (tracking.py)."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_utils.files import open_file, replacing
from mt_dnn.distributed.ranks import is_main
from mt_dnn.runs.folder import check_not_lost
from mt_dnn.runs.trackers import Ending, TrackedRun
from mt_dnn.runs.tracking import STATE, Tracking, settings_of

RECORD = b'{"event": "'  # every record begins like this


class MetricsLog:
    """Appends records to ``<run>/metrics.jsonl``. Only the main rank writes.

    A run that resumes repeats the updates after its last checkpoint, which is the one after ``resume_step`` updates. So
    the records of later updates are removed when the log is opened.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume_step: int,
        trackers: Sequence[str] = (),
        name: str = "run",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the log.

        Args:
            trackers: keys of ``TRACKERS``.
            name, settings: the name and the configuration of the run, for trackers.
        """
        self._stream = self._tracking = None
        if not is_main():
            return
        self.path = folder / "metrics.jsonl"
        self._cut_back(resume_step)
        if resume_step == 0:  # what trackers have is of an earlier attempt
            (folder / STATE).unlink(missing_ok=True)
        if trackers:
            records = list(logged_records(self.path)) if self.path.exists() else []
            tracked = TrackedRun(folder, name, settings_of(settings or {}), resume_step=resume_step)
            self._tracking = Tracking(trackers, tracked, records)
        self._stream = self.path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Appends a record, which has to have the keys ``event`` and ``step``."""
        if self._stream is not None:
            check_not_lost(self.path.parent)
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
        if self._tracking is not None:
            self._tracking.add(record)

    def flush(self) -> None:
        """Waits until all records are on disk, so that no checkpoint is there without the records before it."""
        if self._stream is not None:
            os.fsync(self._stream.fileno())

    def commit(self) -> None:
        """Lets trackers have the records so far. Call it when a checkpoint is saved, so that none can come again."""
        if self._tracking is not None:
            self._tracking.commit()

    def close(self, ending: Ending = "finished") -> None:
        """Closes the log. ``ending``: how the run has ended, for trackers."""
        if self._stream is not None:
            self._stream.close()
        if self._tracking is not None:
            self._tracking.close(ending)

    def _cut_back(self, step: int) -> None:
        """Removes the records of updates after ``step``, and a last record that was cut off when the run was killed.

        What is no record of a run stays as it is.
        """
        if not self.path.exists():
            return
        *records, tail = _lines(self.path)
        if _step(tail) is not None or not _is_cut(tail):
            records.append(tail)
        kept = [record for record in records if (_step(record) or 0) <= step]
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(record + b"\n" for record in kept))


def logged_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a log. What is no record of a run is left out."""
    for line in _lines(path):
        if _step(line) is not None:
            yield json.loads(line)


def _lines(path: Path) -> list[bytes]:
    with open_file(path) as stream:
        return stream.read().split(b"\n")


def mean_figures(path: Path) -> dict[str, float]:
    """The mean of each figure of the adversary over the log of a run, such as ``delta_ratio``."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in logged_records(path):
        for name, value in record.get("adversary", {}).items():
            found[name].append(value)
    return {name: statistics.mean(values) for name, values in found.items()}


def _step(line: bytes) -> int | None:
    """The update of a record. None for a line that is no record."""
    try:
        record = json.loads(line)
        event, step = record["event"], record["step"]
    except (ValueError, KeyError, TypeError, RecursionError):  # not JSON, not UTF-8, or no object with both keys
        return None
    return step if isinstance(event, str) and isinstance(step, int) else None


def _is_cut(tail: bytes) -> bool:
    """Whether the text after the last line break can be the begin of a record. A power failure adds zeros."""
    written = tail.rstrip(b"\0")
    return written[: len(RECORD)] == RECORD[: len(written)]
