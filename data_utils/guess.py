"""Guesses what the task of a file of rows is: which columns have texts and labels, and which type of task they make."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

from data_utils.column_figures import Column, as_number, count_labels, read_columns
from data_utils.column_names import LABELS, OTHER_NAMES, closest
from data_utils.conll import read_conll
from data_utils.entities import ENTITY
from data_utils.errors import UserError, did_you_mean
from data_utils.row_files import CONLL, kind_of
from data_utils.task_types import DATA_FORMATS, TASK_TYPES

LABEL_NAMES = ("label", *LABELS, "class", "category", "sentiment", "rating", "stars", "grade", "score")
SINGLE_NAMES = ("premise", "text", "sentence", "review", "content", "comment", "tweet", "utterance", "message")
PAIR_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentencea", "sentenceb"),
    ("text1", "text2"),
    ("texta", "textb"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "answer"),
    ("query", "passage"),
)
MOST_CLASSES = 100  # labels of a classification
MOST_NUMBERS = 20  # labels that are integers


@dataclass(frozen=True)
class Asked:
    """What the user says of a file. Everything else is guessed."""

    texts: tuple[str, ...] = ()
    label: str | None = None
    uid: str | None = None
    task_type: str | None = None


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
        others: further files with the same columns, such as dev rows. Their labels count too.

    Raises:
        UserError: a file cannot be read, has no column that was asked for, or it cannot be told what its task is.
    """
    check_type(asked.task_type)
    if kind_of(path) == CONLL:
        return _of_conll([path, *others], asked)
    columns = read_columns(path)
    for option, name in (*(("--text", name) for name in asked.texts), ("--label", asked.label), ("--uid", asked.uid)):
        if name is not None and name not in columns:
            raise UserError(f"{path}: {option}: no column '{name}' ({', '.join(columns)}){closest(name, columns)}")
    label = None if asked.task_type == "masked_lm" else _label(path, columns, asked)
    uid = asked.uid or _uid(columns, label)
    data_format, texts = _texts(path, columns, asked, {label, uid})
    if label is not None:
        _check_names(path, columns, label, texts)
    kind = asked.task_type or _type(path, columns, label, data_format)
    if data_format not in TASK_TYPES[kind].formats:
        wanted = " or ".join(TASK_TYPES[kind].formats)
        raise UserError(
            f"{path}: --type {kind}: takes {wanted}, but the texts make {data_format}; say others with --text"
        )
    _check_count(path, kind, data_format, texts)
    mapping = dict(zip(_names(data_format), texts, strict=False)) | {"label": label, "uid": uid}
    if texts == ["choices"] or texts[1:] == ["choices"]:
        mapping = {"premise": texts[0], "choices": texts[1], "label": label, "uid": uid}
    named = {ours: theirs for ours, theirs in mapping.items() if theirs is not None and theirs != ours}
    counts: Counter[str] = Counter()
    if label is not None and (TASK_TYPES[kind].least_labels or kind == "regression"):
        items = TASK_TYPES[kind].answer in ("word_classes", "class_set")
        for file in (path, *others):
            counts += count_labels(file, label, items=items)
    return Guess(_definition(path, kind, data_format, named, counts), texts, label, uid, counts)


def _check_count(path: Path, kind: str, data_format: str, texts: Sequence[str]) -> None:
    """Raises UserError for another number of text columns than the format has. Choices may be more, or in a list."""
    names = DATA_FORMATS[data_format]
    more = "choice1" in names and (len(texts) > len(names) or texts[-1] == "choices")
    if len(texts) != len(names) and not more:
        raise UserError(
            f"{path}: {kind} needs {len(names)} columns of texts ({', '.join(names)}), not {len(texts)}; "
            "say --text for each, in this order"
        )


def check_type(name: str | None) -> None:
    """Raises UserError for an unknown type of task."""
    if name is not None and name not in TASK_TYPES:
        raise UserError(f"--type: no '{name}'{did_you_mean(name, TASK_TYPES)} (known: {', '.join(TASK_TYPES)})")


def _of_conll(paths: Sequence[Path], asked: Asked) -> Guess:
    if asked.task_type not in (None, "sequence_labelling") or asked.uid or len(asked.texts) > 1:
        raise UserError(f"{paths[0]}: a CoNLL file is for sequence_labelling, with one --text and one --label")
    columns = dict(zip(("words",), asked.texts, strict=False)) | ({"label": asked.label} if asked.label else {})
    counts: Counter[str] = Counter()
    for path in paths:
        for _, sentence in read_conll(path, columns, labelled=path == paths[0]):
            counts.update(sentence.get("label", ()))
    if not counts:
        raise UserError(f"{paths[0]}: has no labels; a line has a word and its label")
    definition = _definition(paths[0], "sequence_labelling", "words", columns, counts)
    texts, label = [columns.get("words", "column 1")], columns.get("label", "the last column")
    return Guess(definition, texts, label, None, counts)


def _plain(name: str) -> str:
    """A name as it is compared with known names."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _label(path: Path, columns: Mapping[str, Column], asked: Asked) -> str:
    """The column of the labels: the one of a usual name, or else the one with few different values."""
    if asked.label is not None:
        return asked.label
    free = [name for name in columns if name not in (*asked.texts, asked.uid) and columns[name].rows]
    usual = [name for name in free if _plain(name) in {_plain(known) for known in LABEL_NAMES}]
    exact = [name for name in usual if _plain(name) == "label"]
    few = [name for name in free if not columns[name].is_text and _could_be_labels(columns[name])]
    for found in (exact, usual, few):
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{path}: which column has the labels: {' or '.join(found)}? Say --label COLUMN")
    raise UserError(
        f"{path}: no column looks like labels (columns: {', '.join(columns)}); say --label COLUMN, or "
        "--type masked_lm for texts without labels"
    )


def _could_be_labels(column: Column) -> bool:
    scores = column.numbers == column.rows and column.integers < column.rows
    return scores or bool(column.lists) or 2 <= len(column.different) <= min(MOST_CLASSES, column.rows // 2)


def _uid(columns: Mapping[str, Column], label: str | None) -> str | None:
    """The column of a usual name whose values are all different, if there is one."""
    most = max(column.rows for column in columns.values())
    for name, column in columns.items():
        usual = name != label and name.strip().lower() in ("uid", *OTHER_NAMES["uid"])
        if usual and column.is_unique and column.rows == most and not column.is_text:
            return name
    return None


def _texts(path: Path, columns: Mapping[str, Column], asked: Asked, taken: set[str | None]) -> tuple[str, list[str]]:
    """The data format, and the columns of the texts in the order of the format."""
    free = [name for name in columns if name not in taken and columns[name].rows]
    if asked.texts:
        return _format(asked.texts, columns, asked.task_type), list(asked.texts)
    plain = {_plain(name): name for name in free}
    for data_format in ("cloze", "choices", "question_context"):
        names = DATA_FORMATS[data_format]
        if all(name in free for name in names):
            further = [name for name in islice(_names(data_format), len(names), len(columns)) if name in free]
            return data_format, [*names, *further]
    if {"premise", "choices"} <= set(free):
        return "choices", ["premise", "choices"]
    words = [name for name in free if _plain(name) in ("words", "tokens")]
    words = words or [name for name in free if columns[name].lists]
    if asked.task_type in (None, "sequence_labelling") and len(words) == 1:
        return "words", words
    pairs = [[plain[first], plain[second]] for first, second in PAIR_NAMES if {first, second} <= plain.keys()]
    if len(pairs) == 1:
        return "pair", pairs[0]
    singles = [plain[name] for name in SINGLE_NAMES if name in plain]
    texts = [name for name in free if columns[name].is_text]
    found = singles if len(singles) == 1 and not pairs else texts
    if len(found) == 1:
        return _format(found, columns, asked.task_type), found
    if not found:
        raise UserError(f"{path}: no column looks like texts (columns: {', '.join(columns)}); say --text COLUMN")
    raise UserError(
        f"{path}: which columns have the texts: {', '.join(found)}? Say --text COLUMN, or for pairs of texts twice"
    )


def _format(texts: Sequence[str], columns: Mapping[str, Column], task_type: str | None) -> str:
    """The data format of texts that the user or a name has chosen."""
    formats = TASK_TYPES[task_type].formats if task_type else ("single", "pair")
    if len(formats) == 1:
        return formats[0]
    if task_type is None and len(texts) == 1 and columns[texts[0]].lists:
        return "words"
    return "single" if len(texts) == 1 else "pair" if len(texts) == 2 else "choices"


def _names(data_format: str) -> Iterable[str]:
    """Our names of the text columns of a format, with as many choices as there may be."""
    names = DATA_FORMATS[data_format]
    yield from names
    if "choice1" in names:
        yield from (f"choice{number}" for number in count(3))


def _check_names(path: Path, columns: Mapping[str, Column], label: str, texts: Sequence[str]) -> None:
    """Raises UserError if the first line of a file has a row instead of names of columns."""
    row = next((name for name in texts if len(name.split()) > 8), None)
    if row is None and columns[label].lists == 0 and hash(label) in columns[label].different:
        row = label
    if row is not None:
        raise UserError(
            f"{path}: the first line must have names of columns, but has '{row}'; add a line of names above it"
        )


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
            f"{path}: column '{label}' has {many} different values in {rows} rows, which is much for labels; say "
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
