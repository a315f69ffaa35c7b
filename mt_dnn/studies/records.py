"""Records: what is kept of a finished run, one JSON object each. Tables are made from them alone."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from data_utils.errors import UserError, os_errors
from data_utils.files import read_json, read_lines, read_text, write_json_lines
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.environment import processor, revision
from mt_dnn.runs.folder import write_json
from mt_dnn.runs.log import mean_figures
from mt_dnn.studies.identity import Identity, data_hashes, run_tasks
from mt_dnn.studies.record_form import check_record

RECORD = "record.json"
Record = dict[str, Any]
Located = tuple[str, Record]  # where a record stands, for messages, and the record


def run_record(run: Identity, summary: Mapping[str, Any], spent: Mapping[str, float]) -> Record:
    """The record of a finished run.

    Args:
        run: what it computes, with the configuration in its folder.
        summary: the content of its ``summary.json``.
        spent: ``seconds`` by the clock and ``cpu_seconds`` of all processors.
    """
    predicted = run.config.evaluation.predicted
    return {
        **_origin(run),
        "steps": summary["steps"],
        "selected_step": summary["selected_step"],
        "results": summary["results"],
        "figures": mean_figures(run.config.output / "metrics.jsonl"),
        "predictions": predicted and predicted.model_dump(),
        **spent,
    }


def failure_record(run: Identity, error: str, attempts: int) -> Record:
    """The record of a run that failed. ``error``: one line. ``attempts``: how often it was tried."""
    return {**_origin(run), "error": error, "attempts": attempts}


def _origin(run: Identity) -> Record:
    config = run.config
    return {
        "run": config.name,
        "id": run.run_id,
        "settings_id": run.settings_id,
        "tasks": list(run_tasks(config).trained),
        "mode": config.adversary.mode,
        "seed": config.seed,
        "settings": run.computed["settings"],
        "data": {name: value[:12] for name, value in data_hashes(config).items()},
        "encoder": {name: value[:12] for name, value in run.weights.items()},
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "commit": commit(),
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), **_accelerator(config)},
    }


def _accelerator(config: RunConfig) -> dict[str, str]:
    """The name of the GPU as ``device``, where a run uses one."""
    name = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(name).type == "cpu":
        return {}
    return {"device": torch.cuda.get_device_name(name) if torch.cuda.is_available() else name}


def commit() -> str:
    """The git commit of this code, with ``+`` if files have changed since. Empty where git does not know the code."""
    name, changed = revision()
    return name + ("+" if changed else "")


def write_record(folder: Path, record: Record) -> None:
    """Writes the record of a run into its folder. From then on the run counts as finished, or as failed."""
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> Record | None:
    """The record in a run folder, or None.

    Raises:
        UserError: it is damaged.
    """
    file = folder / RECORD
    if not file.exists():
        return None
    remedy = "remove this file, and mt-dnn sweep makes the run again"
    with os_errors(file, "cannot be read"):
        try:
            record = read_json(read_text(file), str(file))
        except UserError as error:
            raise UserError(f"{error}; {remedy}") from None
    check_record(record, str(file), remedy)
    return record


def check_is_of(record: Record, location: str, run: Identity) -> None:
    """Raises UserError for a record that is not of this run. ``location``: where it stands."""
    for key, wanted in (("settings_id", run.settings_id), ("id", run.run_id)):
        if record[key] != wanted:
            raise UserError(
                f"{location}: {key}: '{record[key]}' is that of another run, not of {run.config.name}; "
                "remove this record, and mt-dnn sweep makes the run again"
            )


def read_records(location: Path) -> Iterator[Record]:
    """The records of all run folders in a folder, the oldest first, or of a file with one record a line.

    Raises:
        UserError: the location does not exist, a record is damaged, or a line of the file is no record.
    """
    return (record for _, record in located_records(location))


def located_records(location: Path) -> Iterator[Located]:
    """The same records as ``read_records``, each with its file, or its file and line. Raises as ``read_records``."""
    if location.is_dir():
        for file in sorted(location.glob(f"*/{RECORD}"), key=lambda file: (file.stat().st_mtime_ns, file)):
            record = read_record(file.parent)
            if record is not None:
                yield str(file), record
    elif location.exists():
        for number, line in read_lines(location):
            record = read_json(line, f"{location}:{number}")
            check_record(record, f"{location}:{number}", "give a file that mt-dnn report --save-records made")
            yield f"{location}:{number}", record
    else:
        raise UserError(f"{location}: no such folder of runs, or file of records")


def by_settings(records: Iterable[Record]) -> dict[str, Record]:
    """Records by the hash of their settings. A finished run goes before a failed one, a later one before an earlier.

    Raises:
        UserError: runs with the same settings have read different rows or weights.
    """
    found: dict[str, Record] = {}
    for record in records:
        known = found.get(record["settings_id"])
        if known is not None and "error" not in known and "error" not in record and _read_other(known, record):
            raise UserError(
                f"{record['run']}: has the settings of {known['run']}, but other rows or weights; "
                "give the records of one of them"
            )
        if known is None or "error" in known or "error" not in record:
            found[record["settings_id"]] = record
    return found


def _read_other(known: Record, record: Record) -> bool:
    """Whether two runs have read files of the same name with other content. One may have read further files."""
    files = [(known.get(kind, {}), record.get(kind, {})) for kind in ("data", "encoder")]
    return any(ours[name] != theirs[name] for ours, theirs in files for name in ours.keys() & theirs.keys())


def save_records(file: Path, records: Iterable[Record]) -> None:
    """Writes records, one JSON object a line, sorted by the names of their runs."""
    write_json_lines(file, sorted(records, key=lambda record: record["run"]))


def restorable(file: Path) -> dict[str, Located]:
    """The records of a file by the names of their runs, as ``restore`` takes them. Raises as ``read_records``."""
    found: dict[str, Located] = {}
    for location, record in located_records(file):
        found.setdefault(record["run"], (location, record))
    return found


def restore(records: Mapping[str, Located], runs: Path) -> int:
    """Writes records into the run folders that they are of, so that a sweep does not make these runs again.

    Args:
        records: by the names of their runs, see ``restorable``.
        runs: folder of run folders. A folder that has a record keeps it.

    Returns:
        How many were written.
    """
    count = 0
    for name, (_, record) in records.items():
        folder = runs / name
        if not (folder / RECORD).exists():
            with os_errors(folder, "cannot be written"):
                folder.mkdir(parents=True, exist_ok=True)
            write_record(folder, record)
            count += 1
    return count
