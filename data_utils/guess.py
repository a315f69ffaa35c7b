"""Guesses what the task of a file of rows is: which type of task its columns of texts and labels make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from data_utils.column_figures import Column, as_number, count_labels, read_columns
from data_utils.column_names import CHOICE, closest
from data_utils.conll import WORDS, looks_like_names, read_conll, read_layout
from data_utils.entities import ENTITY
from data_utils.errors import UserError, did_you_mean
from data_utils.guess_columns import (
    LABEL_NAMES,
    MOST_CLASSES,
    Asked,
    check_names,
    choose_texts,
    label_column,
    names_of_texts,
    plain_name,
    uid_column,
)
from data_utils.row_files import CONLL, kind_of
from data_utils.task_types import DATA_FORMATS, TASK_TYPES

MOST_NUMBERS = 20  # labels that are integers


@dataclass(frozen=True)
class Guess:
    """A guess of what the task is.

    ``definition``: its keys in a task file. ``texts``: the columns of the texts. ``label``: the column of the labels.
    ``uid``: the column of names of rows. ``counts``: how often each label is there, for tasks with ``labels``.
    """

    definition: dict[str, Any]
    texts: list[str]
    label: str | None = None
    uid: str | None = None
    counts: Counter[str] = field(default_factory=Counter)


def guess(path: Path, others: Sequence[Path], asked: Asked) -> Guess:
    """Guesses the task of a file of training rows.

    Args:
        path: the file.
        others: further files with the same columns, such as dev rows. Their labels count too. Test rows do not belong
            to them: their labels may be placeholders.

    Raises:
        UserError: a file cannot be read, has no column that was asked for, or it cannot be told what its task is.
    """
    check_type(asked.task_type)
    for other in others:
        if (kind_of(other) == CONLL) != (kind_of(path) == CONLL):
            raise UserError(f"{other}: has another format than {path}; give both as CoNLL, or neither")
    if kind_of(path) == CONLL:
        return _of_conll([path, *others], asked)
    columns = read_columns(path)
    check_names(path, columns)
    for option, name in (*(("--text", name) for name in asked.texts), ("--label", asked.label), ("--uid", asked.uid)):
        if name is not None and name not in columns:
            raise UserError(f"{path}: {option}: no column '{name}' ({', '.join(columns)}){closest(name, columns)}")
    named = [name for name in (*asked.texts, asked.label, asked.uid) if name is not None]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise UserError(f"{path}: '{twice}' is given twice among --text, --label and --uid; name another column")
    label = None if asked.task_type == "masked_lm" else label_column(path, columns, asked)
    uid = asked.uid or uid_column(columns, label)
    data_format, texts = choose_texts(path, columns, asked, {label, uid})
    if label is not None:
        check_names(path, columns, label)
    kind = asked.task_type or _type(path, columns, label, data_format)
    if data_format not in TASK_TYPES[kind].formats:
        wanted = " or ".join(TASK_TYPES[kind].formats)
        raise UserError(
            f"{path}: --type {kind}: takes {wanted}, but the texts make {data_format}; say others with --text"
        )
    ours = _our_names(path, kind, data_format, texts)
    mapping = dict(zip(ours, texts, strict=True)) | {"label": label, "uid": uid}
    renamed = {name: column for name, column in mapping.items() if column is not None and column != name}
    counts: Counter[str] = Counter()
    if label is not None and (TASK_TYPES[kind].least_labels or kind == "regression"):
        items = TASK_TYPES[kind].answer in ("word_classes", "class_set")
        for file in (path, *others):
            counts += count_labels(file, label, items=items)
    return Guess(_definition(path, kind, data_format, renamed, counts), texts, label, uid, counts)


def _our_names(path: Path, kind: str, data_format: str, texts: Sequence[str]) -> list[str]:
    """Our names of the text columns. There may be more choices than the format needs, or one list of them.

    Raises:
        UserError: the format has another number of columns.
    """
    names = list(DATA_FORMATS[data_format])
    if "choice1" in names:
        alone = [name for name in names if not CHOICE.fullmatch(name)]
        names = (
            [*alone, "choices"]
            if len(texts) == len(alone) + 1
            else list(islice(names_of_texts(data_format), len(texts)))
        )
    if len(texts) != len(names) or len(texts) < len(DATA_FORMATS[data_format]) - ("choices" in names):
        names = list(DATA_FORMATS[data_format])
        raise UserError(
            f"{path}: {kind} needs {len(names)} columns of texts ({', '.join(names)}), not {len(texts)}; "
            "say --text for each, in this order"
        )
    return names


def check_type(name: str | None) -> None:
    """Raises UserError for an unknown type of task."""
    if name is not None and name not in TASK_TYPES:
        raise UserError(f"--type: no '{name}'{did_you_mean(name, TASK_TYPES)} (known: {', '.join(TASK_TYPES)})")


def _of_conll(paths: Sequence[Path], asked: Asked) -> Guess:
    if asked.task_type not in (None, "sequence_labelling") or asked.uid or len(asked.texts) > 1:
        raise UserError(f"{paths[0]}: a CoNLL file is for sequence_labelling, with one --text and one --label")
    columns = dict(zip(("words",), asked.texts, strict=False)) | ({"label": asked.label} if asked.label else {})
    columns = columns or _names_of_conll(paths[0])
    counts: Counter[str] = Counter()
    for path in paths:
        for _, sentence in read_conll(path, columns, labelled=path == paths[0]):
            counts.update(sentence.get("label", ()))
    if not counts:
        raise UserError(f"{paths[0]}: has no labels; a line has a word and its label")
    definition = _definition(paths[0], "sequence_labelling", "words", columns, counts)
    texts, label = [columns.get("words", "column 1")], columns.get("label", "the last column")
    return Guess(definition, texts, label, None, counts)


def _names_of_conll(path: Path) -> dict[str, str]:
    """The columns of words and labels, if the first line of a file looks like names of columns."""
    layout = read_layout(path, {"words": "any name"})
    if layout is None or not looks_like_names(layout.names):
        return {}
    words = next((name for name in layout.names if plain_name(name) in WORDS), layout.names[0])
    labels = [name for name in layout.names if name != words and plain_name(name) in LABEL_NAMES]
    return {"words": words, "label": labels[0] if labels else layout.names[-1]}


def _type(path: Path, columns: Mapping[str, Column], label: str | None, data_format: str) -> str:
    fixed = {"words": "sequence_labelling", "question_context": "span", "choices": "multiple_choice", "cloze": "cloze"}
    if data_format in fixed:
        return fixed[data_format]
    assert label is not None  # only masked_lm has none, and it is asked for
    column = columns[label]
    many, rows = len(column.different), column.rows
    if column.lists:
        return "multi_label"
    if column.numbers == rows and column.integers < rows:
        return "regression"
    if column.numbers == rows and many > MOST_NUMBERS:
        raise UserError(
            f"{path}: column '{label}' has {many} different integers; say --type regression if they are amounts, or "
            "--type classification if they are names"
        )
    if many > MOST_CLASSES or 2 * many > max(rows, 4):
        raise UserError(
            f"{path}: column '{label}' has {many} different values in {rows} rows, too many for labels; say "
            "--label COLUMN, or --type classification if they are labels"
        )
    return "classification"


def _definition(
    path: Path, kind: str, data_format: str, columns: Mapping[str, str], counts: Counter[str]
) -> dict[str, Any]:
    definition: dict[str, Any] = {"task_type": kind, "data_format": data_format}
    numbers = {label: as_number(label) for label in counts}
    numeric = None not in numbers.values()
    if TASK_TYPES[kind].least_labels:
        if len(counts) < TASK_TYPES[kind].least_labels:
            found = ", ".join(sorted(counts)) or "no label"
            raise UserError(f"{path}: the labels are {found}; {kind} needs {TASK_TYPES[kind].least_labels} or more")
        if kind == "ordinal" and not numeric:
            raise UserError(
                f"{path}: --type ordinal: the labels are no numbers, so their order is not known; use "
                "--type classification, and write type and order into the task file"
            )
        definition["labels"] = sorted(counts, key=lambda label: (numbers[label] if numeric else 0, label))
    if kind == "regression":
        if not numeric:
            wrong = next(label for label, number in numbers.items() if number is None)
            raise UserError(f"{path}: --type regression: the label '{wrong}' is no number")
        known = [number for number in numbers.values() if number is not None]
        if len(set(known)) < 2:
            raise UserError(
                f"{path}: the labels are all {next(iter(counts), 'empty')}; regression needs different ones"
            )
        definition["value_range"] = [min(known), max(known)]
    if kind == "classification":
        definition["metrics"] = ["accuracy", "f1_macro"]
    if kind == "sequence_labelling" and not all(map(ENTITY.fullmatch, counts)):
        definition["metrics"] = ["accuracy", "f1_macro"]
    return definition | ({"columns": dict(columns)} if columns else {})
