"""Guesses which columns of a file have the texts, the labels and the names of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from data_utils.column_figures import Column, as_number
from data_utils.column_names import LABELS, OTHER_NAMES
from data_utils.errors import UserError
from data_utils.row_files import kind_of
from data_utils.task_types import DATA_FORMATS, TASK_TYPES

LABEL_NAMES = ("label", *LABELS, "tag", "ner", "class", "category", "sentiment", "rating", "stars", "grade", "score")
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
    ("question", "passage"),
    ("query", "passage"),
)
WORDS_NAMES = ("words", "tokens")
MOST_WORDS = 8  # of the name of a column
MOST_CLASSES = 100  # labels of a classification


@dataclass(frozen=True)
class Asked:
    """What the user says of a file. Everything else is guessed."""

    texts: tuple[str, ...] = ()
    label: str | None = None
    uid: str | None = None
    task_type: str | None = None


def plain_name(name: str) -> str:
    """A name as it is compared with known names."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _named(columns: Iterable[str], known: Iterable[str]) -> list[str]:
    """The columns with a known word in their name, such as ``Review Text``."""
    words = set(known)
    return [name for name in columns if words & set(re.findall(r"[^\W\d_]+", name.casefold()))]


def label_column(path: Path, columns: Mapping[str, Column], asked: Asked) -> str:
    """The column of the labels: the one of a usual name, or else the one with few different values."""
    if asked.label is not None:
        return asked.label
    free = [name for name in columns if name not in (*asked.texts, asked.uid) and columns[name].rows]
    usual = [name for name in free if plain_name(name) in {plain_name(known) for known in LABEL_NAMES}]
    exact = [name for name in usual if plain_name(name) == "label"]
    few = [name for name in free if not columns[name].is_text and _could_be_labels(columns[name])]
    for found in (exact, usual, _named(few, LABEL_NAMES), few):
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


def uid_column(columns: Mapping[str, Column], label: str | None) -> str | None:
    """The column of a usual name whose values are all different, if there is one."""
    most = max(column.rows for column in columns.values())
    for name, column in columns.items():
        usual = name != label and name.strip().lower() in ("uid", *OTHER_NAMES["uid"])
        if usual and column.is_unique and column.rows == most and not column.is_text:
            return name
    return None


def choose_texts(
    path: Path, columns: Mapping[str, Column], asked: Asked, taken: set[str | None]
) -> tuple[str, list[str]]:
    """The data format, and the columns of the texts in the order of the format."""
    free = [name for name in columns if name not in taken and columns[name].rows]
    if asked.texts:
        return _format(asked.texts, columns, asked.task_type), list(asked.texts)
    plain = {plain_name(name): name for name in free}
    for data_format in ("cloze", "choices", "question_context"):
        needed = DATA_FORMATS[data_format]
        if all(name in free for name in needed):
            further = [name for name in islice(names_of_texts(data_format), len(needed), len(columns)) if name in free]
            return data_format, [*needed, *further]
    for data_format, names in (("cloze", ["premise", "query", "choices"]), ("choices", ["premise", "choices"])):
        if set(names) <= set(free):
            return data_format, names
    words = [name for name in free if plain_name(name) in WORDS_NAMES]
    words = words or [name for name in free if columns[name].lists]
    if asked.task_type in (None, "sequence_labelling") and len(words) == 1:
        return "words", words
    pairs = [[plain[first], plain[second]] for first, second in PAIR_NAMES if {first, second} <= plain.keys()]
    if len(pairs) == 1:
        return "pair", pairs[0]
    singles = [plain[name] for name in SINGLE_NAMES if name in plain]
    texts = [name for name in free if columns[name].is_text]
    named = singles if len(singles) == 1 else _named(texts, SINGLE_NAMES)
    found = named if len(named) == 1 and not pairs else texts
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


def names_of_texts(data_format: str) -> Iterable[str]:
    """Our names of the text columns of a format, with as many choices as there may be."""
    names = DATA_FORMATS[data_format]
    yield from names
    if "choice1" in names:
        yield from (f"choice{number}" for number in count(3))


def check_names(path: Path, columns: Mapping[str, Column], label: str | None = None) -> None:
    """Raises UserError if the first line of a TSV or CSV file has a row instead of names of columns.

    A name is none if it is a sentence, a number beside names, or one of the labels in its column, ``label``.
    """
    if kind_of(path) not in ("tsv", "csv"):
        return
    numbers = [name for name in columns if as_number(name) is not None]
    row = next((name for name in columns if len(name.split()) > MOST_WORDS), None)
    if row is None and 0 < len(numbers) < len([name for name in columns if name]):
        row = numbers[0]
    if row is None and label is not None and hash(label) in columns[label].different:
        row = label
    if row is not None:
        shown = row if len(row) < 40 else f"{row[:36]} …"
        raise UserError(
            f"{path}: the first line must have names of columns, but has '{shown}'; add a line of names above it"
        )
