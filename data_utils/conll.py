"""Reads CoNLL files: a word with its columns in each line, and a blank line between two sentences.

Columns are separated by tabs if the first word's line has one, else by spaces. Lines that begin with ``-DOCSTART-`` are
skipped, and comments are: lines that begin with ``#`` and have not as many columns as the words. Of CoNLL-U, which has
ten columns, the lines of words that are written together (``1-2``) and of words that are not written (``1.1``) are
skipped too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.column_names import LABELS, check_twice, closest
from data_utils.errors import UserError
from data_utils.files import read_lines

DOCUMENT = "-DOCSTART-"
SPACES = re.compile("[ \t]+")  # not other white space, which may be a word
CONLL_U = 10  # columns
# Names of columns, in lower case. A first line of such names alone is none of words.
WORDS = ("word", "words", "token", "tokens", "form")
NAMES = {*WORDS, *LABELS, "label", "tag", "id", "lemma", "pos", "upos", "xpos", "chunk", "ner", "ner_tag", "iob", "bio"}
NO_WORD = re.compile(r"\d+[-.]\d+")  # in the first column of CoNLL-U

Sentence = dict[str, list[str]]


@dataclass(frozen=True)
class Layout:
    """What the lines of a CoNLL file look like. ``width``: how many columns they have. ``tabs``: what is between them.

    ``names``: the names of the columns, if the file has a line of them.
    """

    width: int
    tabs: bool
    names: tuple[str, ...] = ()

    def fields(self, line: str) -> list[str]:
        return [field.strip() for field in line.split("\t")] if self.tabs else SPACES.split(line.strip(" \t"))

    def is_word(self, line: str) -> bool:
        """Whether a line that is not blank has a word, or else a comment or the like."""
        fields = self.fields(line)
        if line.startswith(DOCUMENT):
            return False
        if line.startswith("#") and (len(fields) != self.width or " = " in line):
            return False
        return not (self.width == CONLL_U and NO_WORD.fullmatch(fields[0]))

    def position(self, location: object, key: str, column: str) -> int:
        """The position of a column, counted from 0. ``column``: its name, or its number, counted from 1.

        Raises:
            UserError: there is no such column, or two have this name.
        """
        if column in self.names:
            check_twice(location, [name for name in self.names if name == column])
            return self.names.index(column)
        if column.isascii() and column.isdigit() and 1 <= int(column) <= self.width:
            return int(column) - 1
        known = f"the file has {', '.join(self.names)}" if self.names else f"the lines have {self.width}"
        raise UserError(f"{location}: no column '{column}' (columns.{key}; {known}){closest(column, self.names)}")


def read_conll(path: Path, columns: Mapping[str, str], *, labelled: bool = False) -> Iterator[tuple[str, Sentence]]:
    """Yields for each sentence its location, and ``words`` and ``label``, each a list with a text for each word.

    Args:
        columns: which columns ``words`` and ``label`` are. By default the words are the first column, and the labels
            the last. Names say that the first line has the names of the columns. A file without the column of the
            labels is unlabelled.
        labelled: a file must have the column of the labels that ``columns`` gives.

    Raises:
        UserError: there is no such column, or a line has another number of columns, no word or no label. The message
            has the line.
    """
    layout = read_layout(path, columns)
    if layout is None:
        return
    chosen = _chosen(path, layout, columns, labelled=labelled)
    sentence: list[Sequence[str]] = []
    start, header = "", bool(layout.names)
    for number, line in read_lines(path, blank=True):
        location = f"{path}:{number}"
        if not line.strip() or line.startswith(DOCUMENT):
            if sentence:
                yield start, _columns(sentence, chosen)
            sentence = []
        elif layout.is_word(line):
            if header:
                header = False
                continue
            sentence.append(_checked(location, layout.fields(line), layout, chosen))
            start = location if len(sentence) == 1 else start
    if sentence:
        yield start, _columns(sentence, chosen)


def read_layout(path: Path, columns: Mapping[str, str]) -> Layout | None:
    """The layout of the lines of a file. None if it has no word. ``columns``: see ``read_conll``.

    Raises:
        UserError: the first line looks like names of columns, but ``columns`` has no names.
    """
    named = any(not column.isdigit() for key, column in columns.items() if key in ("words", "label"))
    for number, line in read_lines(path):
        if line.strip() and not line.startswith(("#", DOCUMENT)):
            fields = Layout(0, "\t" in line).fields(line)
            if looks_like_names(fields) and not named:
                raise UserError(
                    f"{path}:{number}: looks like names of columns; name two of them in the task file, such as "
                    f"columns: {{words: {fields[0]}, label: {fields[-1]}}}"
                )
            return Layout(len(fields), "\t" in line, tuple(fields) if named else ())
    return None


def looks_like_names(fields: Sequence[str]) -> bool:
    """Whether the first line has names of columns, and no word."""
    return len(fields) > 1 and all(field.lower() in NAMES for field in fields)


def _chosen(path: Path, layout: Layout, columns: Mapping[str, str], *, labelled: bool) -> dict[str, int]:
    """The positions of the columns that are read, by our name."""
    chosen = {"words": layout.position(path, "words", columns.get("words", "1"))}
    if "label" in columns:
        try:
            chosen["label"] = layout.position(path, "label", columns["label"])
        except UserError:
            if labelled:
                raise
    elif layout.width - 1 != chosen["words"]:
        chosen["label"] = layout.width - 1
    return chosen


def _checked(location: str, fields: Sequence[str], layout: Layout, chosen: Mapping[str, int]) -> Sequence[str]:
    if len(fields) != layout.width:
        found = f"{len(fields)} column{'' if len(fields) == 1 else 's'}"
        raise UserError(f"{location}: {found}, expected {layout.width}, as the first line has")
    for key, position in chosen.items():
        if not fields[position] or " " in fields[position]:
            problem = f"'{fields[position]}' has a space" if fields[position] else "is empty"
            raise UserError(f"{location}: column {position + 1} ({key}) {problem}; write one word with one label")
    return fields


def _columns(sentence: Sequence[Sequence[str]], chosen: Mapping[str, int]) -> Sentence:
    return {key: [fields[position] for fields in sentence] for key, position in chosen.items()}
