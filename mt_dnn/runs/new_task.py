"""Writes the task file and the run file for rows of the user's own. guess.py says what their task is."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from data_utils.errors import UserError, os_errors, printable, shown
from data_utils.extends import KEY
from data_utils.files import check_not_rows, open_file, replacing
from data_utils.guess import Guess, guess
from data_utils.guess_columns import Asked
from data_utils.row_files import CONLL, kind_of
from data_utils.rows import Rows, find_rows, read_rows, usual_names
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs.config_file import load_config

CARVE = 0.1  # the share of training rows that becomes dev rows where there is no file of them
PARTS = (10, 5, 2)  # a share of 1 / n needs n different texts
MOST_LISTED = 8  # labels that are printed


@dataclass(frozen=True)
class NewTask:
    """What was written. ``rows``: how many training rows there are. ``said``: options, and what was found instead."""

    task_file: Path
    run_file: Path
    rows: int
    said: list[tuple[str, str]]


def new_task(
    train: Path,
    *,
    dev: Path | None = None,
    test: Path | None = None,
    name: str | None = None,
    asked: Asked,
    encoder: str,
    output: Path | None = None,
    force: bool = False,
) -> NewTask:
    """Writes ``<name>.yml``, which says what the task of a file of rows is, and ``<name>_run.yml``, which trains it.

    Both files are complete or absent, and every row has been read with them.

    Args:
        train: training rows, with any names of columns, in any format of rows. Without ``dev``, a part of them is set
            aside.
        dev: rows to choose the best model. Default: the file that is named like ``train`` with ``_dev``, if any.
        test: rows to score at the end, perhaps without labels. Default: the file that is named with ``_test``, if any.
        name: the name of the task. Default: that of the file.
        asked: what is not to be guessed.
        encoder: what ``encoder.name`` of a run file may be.
        output: the task file. The run file is beside it. Default: ``<name>.yml`` in the working folder.
        force: replace files that are there.

    Raises:
        UserError: a file cannot be read or written or is there already, it cannot be told what the task is, or a row
            does not fit it.
    """
    for path in (train, *filter(None, (dev, test))):
        with os_errors(path, "cannot be read"):
            open_file(path).close()
    if name is not None and not name.isprintable():
        raise UserError(f"--name: {shown(name)} holds a line break or the like; use letters, digits, - and _")
    name = name or _name(train)
    files = {"train": train, **_found(train, "dev", dev), **_found(train, "test", test)}
    task_file, run_file = _outputs(output or Path(f"{name}.yml"), list(files.values()), force=force)
    if hasattr(nn.ModuleDict, name) or name == KEY:
        user = "a task file" if name == KEY else "torch"
        raise UserError(f"{name}: {user} uses this name; choose another with --name")
    found = guess(train, [files["dev"]] if "dev" in files else [], asked)
    folder = _folder(list(files.values()))
    definition = {**found.definition, "splits": list(files)} | _files(name, files, folder)
    with ExitStack() as written:
        temporary = written.enter_context(replacing(task_file))
        temporary.write_text(_task_text(train, name, definition), encoding="utf-8")
        with _named(temporary, task_file):
            task = load_task_defs(temporary)[name]
        rows = {split: read_rows(find_rows(folder, task, split), task, test=split == "test") for split in files}
        carve = None if "dev" in files else _carve(train, found.texts[0], rows["train"].first)
        run = written.enter_context(replacing(run_file))
        run.write_text(_run_text(name, task_file, folder, encoder, carve), encoding="utf-8")
        with _named(run, run_file):
            load_config(run)
    return NewTask(task_file, run_file, len(rows["train"]), list(_said(task, found, files, rows, run_file, carve)))


@contextmanager
def _named(temporary: Path, final: Path) -> Iterator[None]:
    """Makes messages about a temporary file name the file that it becomes."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}".replace(f"{temporary}", f"{final}")) from None


def _outputs(task_file: Path, files: Sequence[Path], *, force: bool) -> tuple[Path, Path]:
    """The task file and the run file. Raises UserError for one that may not be replaced. ``files``: of rows."""
    if task_file.is_dir():
        raise UserError(f"{task_file}: is a folder; --output is the name of the task file")
    run_file = task_file.with_name(f"{task_file.stem}_run{task_file.suffix}")
    for path in (task_file, run_file):
        check_not_rows(path, *files)
        if path.exists() and not force:
            raise UserError(f"{path}: is there already; give --force to replace it, or another name with --output")
    return task_file, run_file


def next_command(new: NewTask) -> str:
    """The command that trains the task, as it is typed in a shell."""
    return shlex.join(["mt-dnn", "train", f"{new.run_file}"])


def _name(path: Path) -> str:
    """A name for the task, from the name of its file."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.name.split(".")[0]).strip("_").removesuffix("_train")
    return stem if stem and stem != KEY and not hasattr(nn.ModuleDict, stem) else f"{stem or 'my'}_task"


def _found(train: Path, split: str, given: Path | None) -> dict[str, Path]:
    """The file of a split, or the one beside ``train`` that is named like it."""
    beside = train.with_name(train.name.replace("_train.", f"_{split}."))
    return {split: given} if given else {split: beside} if beside != train and beside.exists() else {}


def _folder(files: Sequence[Path]) -> Path:
    """The lowest folder that all files are in or below. It is relative if the first of them is."""
    first = files[0].parent
    if all(path.parent.resolve() == first.resolve() for path in files):
        return first
    common = os.path.commonpath([path.parent.resolve() for path in files])
    return Path(common if first.is_absolute() else os.path.relpath(common))


def _files(name: str, files: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """The key ``files`` of the task, for files of which the name does not say what they are."""
    below = {split: path.parent.resolve().relative_to(folder.resolve()) / path.name for split, path in files.items()}
    named = {split: f"{path}" for split, path in below.items() if f"{path}" not in usual_names(name, split)}
    return {"files": named} if named else {}


def _carve(train: Path, column: str, texts: Sequence[str]) -> float:
    """The share of the training rows that becomes dev rows. ``column``: of their first texts, ``texts``."""
    parts = next((parts for parts in PARTS if parts <= len(set(texts))), None)
    if parts is None:
        raise UserError(f"{train}: all rows have the same {column}, so none can be set aside; give some with --dev")
    return 1 / parts


def _task_text(train: Path, name: str, definition: Mapping[str, Any]) -> str:
    content = yaml.safe_dump(
        {name: dict(definition)}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )
    return f"# What the task in {printable(train.name)} is. mt-dnn config --schema explains all keys.\n{content}"


def _run_text(name: str, task_file: Path, folder: Path, encoder: str, carve: float | None) -> str:
    data: dict[str, Any] = {"dir": f"{folder}"}
    if carve is not None:
        data["carve"] = carve
    content = {"name": name, "task_defs": f"{task_file}", "data": data, "encoder": {"name": encoder}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return f"# How to train {printable(name)}. mt-dnn config --schema explains all keys.\n{text}"


def _said(
    task: TaskDef,
    found: Guess,
    files: Mapping[str, Path],
    rows: Mapping[str, Rows],
    run_file: Path,
    carve: float | None,
) -> Iterator[tuple[str, str]]:
    """Yields for each guess the option that changes it, and what was found."""
    empty = sum(not text.strip() for text in (*rows["train"].first, *(rows["train"].second or ())))
    blank = f"; {empty:,} of them empty, and trained on too" if empty else ""
    yield "--text", f"{' and '.join(found.texts)} (data_format: {task.data_format}){blank}"
    if found.label is not None:
        yield "--label", f"{found.label}{_labels(task, found, with_dev='dev' in files)}"
    yield "--type", task.task_type
    unit = "sentence" if kind_of(files["train"]) == CONLL else "row"
    yield "--uid", found.uid or f"none; the name of a {unit} is its number in the file"
    if carve is None:
        yield "--dev", f"{files['dev']}, {len(rows['dev']):,} rows"
    else:
        yield "--dev", f"none; {carve:.0%} of the rows, the same in every run (data.carve in {run_file.name})"
    yield "--test", f"{files['test']}, {len(rows['test']):,} rows" if "test" in files else "none"


def _labels(task: TaskDef, found: Guess, *, with_dev: bool) -> str:
    if task.value_range is not None:
        return f": numbers from {task.value_range[0]:g} to {task.value_range[1]:g}"
    if not task.labels:
        return ""
    named = sorted(found.counts, key=lambda label: -found.counts[label])
    shown = ", ".join(f"{label} ({found.counts[label]:,})" for label in named[:MOST_LISTED])
    more = f" and {len(named) - MOST_LISTED} more" if len(named) > MOST_LISTED else ""
    return f": {shown}{more}{', train and dev together' if with_dev else ''}"
