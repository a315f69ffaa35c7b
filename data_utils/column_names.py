"""Names of columns and files: what a task file calls them, and for columns what other data sets do, for errors."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from data_utils.errors import UserError, did_you_mean, listed, shortened
from data_utils.task_types import DATA_FORMATS

CHOICE = re.compile(r"choice[1-9][0-9]*")
SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}
LABELS = ("labels", "tags", "ner_tags", "gold_label", "gold", "target")

# By column, the names that other data sets use for it, in lower case.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "uid": ("id", "idx", "guid", "index", "pairid", "row_id"),
    "label": (*LABELS, "tag", "class", "score", "answer", "answers"),
    "premise": ("sentence1", "text1", "text_a", "question1", "question", "passage", "sentence", "text", "context"),
    "hypothesis": ("sentence2", "sentence", "text2", "text_b", "question2", "answer"),
    "words": ("tokens", "token", "word", "sentence", "text"),
    "question": ("query",),
    "context": ("passage", "paragraph", "text"),
    "query": ("question",),
}
KNOWN = {*OTHER_NAMES, *(name for names in DATA_FORMATS.values() for name in names)}
KNOWN |= {name for names in OTHER_NAMES.values() for name in names}


def other_name(columns: Sequence[str], wanted: str, names: Sequence[str] | None = None) -> str | None:
    """The column that is probably ``wanted`` under another name, one of ``names``. None if there is none."""
    spelled = {column.strip().lower(): column for column in columns}
    for name in (wanted, *(OTHER_NAMES.get(wanted, ()) if names is None else names)):
        if name in spelled and spelled[name] != wanted:
            return spelled[name]
    return None


def check_mapping(columns: Mapping[str, str], data_format: str, answer: str) -> None:
    """Checks the key ``columns`` of a task: our name of a column → the name in the files.

    Raises:
        ValueError: the task reads no column of a name of ours, or two of them are the same column of the files.
    """
    texts = DATA_FORMATS[data_format]
    known = ["uid", *(["label"] if answer != "tokens" else []), *texts, "soft_label", "question_id"]
    known += ["choices"] if "choice1" in texts else []
    theirs: dict[str, str] = {}
    for name, column in columns.items():
        if name not in known and not ("choice1" in texts and CHOICE.fullmatch(name)):
            meant = next((ours for ours in known if name.lower() in OTHER_NAMES.get(ours, ())), None)
            hint = f"; write {meant}" if meant else did_you_mean(name, known)
            raise ValueError(f"columns: the task reads no '{name}' (it reads {', '.join(known)}){hint}")
        if column in theirs:
            raise ValueError(f"columns: {theirs[column]} and {name} are both '{column}'; name two columns")
        theirs[column] = name


def check_files(files: Mapping[str, str], splits: Collection[str]) -> None:
    """Checks the key ``files`` of a task: split → its file, counted from the folder of rows.

    Raises:
        ValueError: there is no such split, or a file is outside the folder, so that it would stay the same in another.
    """
    for split, file in files.items():
        if split not in splits:
            raise ValueError(f"files: '{split}' is not one of its splits{did_you_mean(split, splits)}")
        if PurePath(file).is_absolute() or ".." in PurePath(file).parts:
            raise ValueError(
                f"files: '{file}' is outside the folder of rows; set data.dir to a folder that holds all files, and "
                "count from there"
            )


def renamed(values: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """The values of a row by our names. A column of the file that has the name of a renamed one is left out."""
    if not columns:
        return values
    ours = {theirs: name for name, theirs in columns.items()}
    return {ours.get(name, name): value for name, value in values.items() if name in ours or name not in columns}


def optional(name: str, data_format: str) -> bool:
    """Whether a file may lack a column, by our name, also where the task file names it."""
    return name in ("soft_label", "question_id") or (
        CHOICE.fullmatch(name) is not None and name not in DATA_FORMATS[data_format]
    )


def check_renamed(
    location: object, names: Iterable[str], needed: Iterable[str], columns: Mapping[str, str], task: str
) -> None:
    """Raises UserError if a file lacks a needed column that the task file names.

    ``names``: the columns of the file. ``needed``: our names. ``columns``: see ``check_mapping``.
    """
    names = list(names)
    for name in needed:
        if (wanted := columns.get(name)) is not None and wanted not in names:
            check_separated(location, names)
            raise UserError(
                f"{location}: no column '{wanted}' (columns.{name} of task {task}; the file has "
                f"{listed(names)}){closest(wanted, names)}"
            )


def check_separated(location: object, names: Collection[str]) -> None:
    """Raises UserError if a file has one column, whose name has a separator in it.

    Such a file has several columns, with another separator than its format has.
    """
    mark = next((mark for mark in SEPARATORS if mark in next(iter(names))), None) if len(names) == 1 else None
    if mark is not None:
        raise UserError(
            f"{location}: has {SEPARATORS[mark]} between its columns; save it as .tsv with tabs, or as .csv with commas"
        )


def text_columns(data_format: str, columns: Mapping[str, str], names: Collection[str]) -> list[str]:
    """The names in a file of the text columns of a data format. ``names``: of all its columns.

    Where the file has the column ``choices``, it needs no single choices. ``columns``: see ``check_mapping``.
    """
    texts = list(DATA_FORMATS[data_format])
    if "choice1" in texts and columns.get("choices", "choices") in names:
        texts = [*(name for name in texts if not CHOICE.fullmatch(name)), "choices"]
    return [columns.get(name, name) for name in texts]


def closest(name: str, names: Iterable[str]) -> str:
    """``", did you mean 'Review Text'?"`` with the name that is most like it, whatever its case; may be empty."""
    folded = {known.strip().casefold(): known for known in names}
    found = difflib.get_close_matches(name.strip().casefold(), folded, n=1)
    return f", did you mean '{folded[found[0]]}'?" if found else ""


def looks_like_names(cells: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether the first line of a TSV has names of columns: two of its first three cells are expected or usual ones."""
    known = {*KNOWN, *(name.strip().lower() for name in expected)}
    return sum(cell.strip().lower() in known for cell in cells[:3]) >= 2


def check_no_names(location: str, cells: Sequence[str], expected: Sequence[str]) -> None:
    """Raises UserError if the first line of a TSV, taken for a row of the old MT-DNN, looks like names of columns."""
    if not looks_like_names(cells, expected):
        return
    _check_line_ends(location, cells)
    changes, free = [], [cell for cell in cells if cell not in expected]
    for name in expected:
        if name not in cells:
            found = other_name(free, name)
            if found is not None:
                free.remove(found)
            elif name == "uid":  # rows without one are named by their number
                continue
            changes.append(f"add '{name}'" if found is None else f"rename '{found}' to '{name}'")
    todo = f": {', '.join(changes)}" if changes else ""
    raise UserError(
        f"{location}: looks like column names, but the names have to be {', '.join(expected)}{todo}, or name them in "
        "the task file with columns (if it is a row, write a line with these names above it)"
    )


def check_label_name(location: object, columns: Sequence[str]) -> None:
    """Raises UserError if there is no column of labels, but one whose name says that it has labels."""
    if "label" not in columns and (found := other_name(columns, "label", LABELS)):
        raise UserError(
            f"{location}: no column 'label', but '{found}'; write columns: {{label: {found}}} in the task file, or "
            "rename it to 'label', or to anything else if the rows are unlabelled"
        )


def check_columns(location: object, columns: Iterable[str], needed: Sequence[str]) -> None:
    """Raises UserError if two columns have the same name, one of the needed columns is missing, or one is no name."""
    columns = list(columns)
    _check_line_ends(location, columns)
    check_twice(location, columns)
    for name in needed:
        if name not in columns:
            check_separated(location, columns)
            found = other_name([column for column in columns if column not in needed], name)
            hint = (
                f"; rename '{found}' to '{name}', or write columns: {{{name}: {found}}} in the task file"
                if found
                else ""
            )
            raise UserError(f"{location}: no column '{name}' (columns: {listed(columns)}){hint}")


def check_twice(location: object, columns: Iterable[str]) -> None:
    """Raises UserError if two columns have the same name."""
    if twice := {name for name, times in Counter(columns).items() if times > 1}:
        raise UserError(f"{location}: two columns have the name '{shortened(min(twice))}'; rename one of them")


def _check_line_ends(location: object, columns: Iterable[str]) -> None:
    """Raises UserError for a header line that goes on behind a carriage return, as in files of old programs."""
    if any("\r" in name for name in columns):
        raise UserError(
            f"{location}: lines end with a carriage return alone, so the file is one line; save it with the line ends "
            "of Unix or Windows"
        )
