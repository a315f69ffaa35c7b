"""Foreign files → canonical rows. There is one class per layout. Each converts the file of one split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from data_utils.benchmarks.tables import Table, open_table
from data_utils.benchmarks.written import (
    LAYOUT_ERRORS,
    Counted,
    Row,
    Written,
    by_label,
    by_word,
    write_choices,
    write_split,
)
from data_utils.errors import UserError
from data_utils.files import read_json, read_lines
from data_utils.task_types import DATA_FORMATS


@dataclass(frozen=True)
class Source:
    """Single sentences or pairs: TSV with or without a header, or JSONL.

    `files`: for each split the names to look for. The first file that is found is read. `*` is as in the shell.
    `premise` to `extra` are names of columns. Without the column `uid`, rows are numbered from 0. A test file without
    the column `label` is unlabelled. `bare`: the columns of files without a header. `labels` maps the file's labels to
    ours. `where`: only rows with these values are used. `skip_broken`: rows with too many or too few fields are left
    out.
    """

    files: Mapping[str, Sequence[str]]
    premise: str = "sentence1"
    hypothesis: str | None = "sentence2"
    label: str = "label"
    uid: str = "index"
    extra: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    skip_broken: bool = False

    @property
    def texts(self) -> list[str]:
        """The columns of the first and the second sentence."""
        return [self.premise] if self.hypothesis is None else [self.premise, self.hypothesis]

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the file and the line or column that is wrong."""
        rows, extra, table = self.read(path, split=split)
        columns = [*DATA_FORMATS["single" if self.hypothesis is None else "pair"], *extra]
        written = write_split(rows, columns, task=task, split=split, output=output, location=path)
        written.broken = table.broken
        return written

    def read(self, path: Path, *, split: str) -> tuple[Iterator[Row], list[str], Table]:
        """Returns the rows of a file, the names of their extra columns, and the table that they are read from."""
        table = open_table(path, marker=self.premise, bare=self.bare, skip_broken=self.skip_broken)
        may_lack_label = "test" in split and self.label not in table.columns
        table.need(*self.texts, *self.where, *([] if may_lack_label else [self.label]))
        extra = [column for column in self.extra if column in table.columns]
        return self.rows(table, extra), extra, table

    def rows(self, table: Iterable[Row], extra: Sequence[str]) -> Iterator[Row]:
        """Yields the rows of `table` with canonical names of columns."""
        names = dict(zip(("premise", "hypothesis"), self.texts, strict=False))
        for number, row in enumerate(table):
            if all(row[column] == value for column, value in self.where.items()):
                label = row.get(self.label, "")
                yield {
                    "uid": row.get(self.uid, str(number)),
                    "label": self.labels.get(label, label),
                    **{ours: row[theirs] for ours, theirs in names.items()},
                    **{column: row.get(column, "") for column in extra},
                }


@dataclass(frozen=True)
class RowSource:
    """JSONL whose lines a function turns into rows, for example because a text is made from several fields.

    `rows` takes the number of a line from 0, its object and the split. It returns the canonical rows of the line. A row
    with the label "" is unlabelled. None is a broken row, which is left out. If `rows` raises one of LAYOUT_ERRORS, the
    line is wrong.
    """

    files: Mapping[str, Sequence[str]]
    rows: Callable[[int, Any, str], Iterable[Row | None]]
    counted: Counted = by_label

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the line that is wrong."""
        locations = ((f"{path}:{number}", line) for number, line in read_lines(path))
        found = ((location, read_json(line, location)) for location, line in locations)
        return self.write_found(found, task=task, split=split, output=output, location=path)

    def write_found(self, found: Iterable[tuple[str, Any]], *, task: str, split: str, **where: Any) -> Written:
        """Converts (location, object) pairs. Raises UserError naming the location that is wrong."""
        rows = list[Row | None]()
        for number, (location, values) in enumerate(found):
            try:
                made = list(self.rows(number, values, split))
            except LAYOUT_ERRORS as error:
                problem = f"{type(error).__name__}: {error}"
                raise UserError(f"{location}: not a row of {task} ({problem})") from None
            for text in chain.from_iterable(row.values() for row in made if row):
                if not isinstance(text, str):
                    raise UserError(f"{location}: not a row of {task} (expected a text, found {text!r})")
            rows += made
        return write_choices(rows, task=task, split=split, counted=self.counted, **where)


@dataclass(frozen=True)
class GroupedSource:
    """Labelled pairs that become multiple choice. All second sentences of one first sentence are its choices.

    Exactly one of the choices has to have the label ``right``. Other first sentences are left out, and their rows are
    counted as broken.
    """

    source: Source
    right: str

    @property
    def files(self) -> Mapping[str, Sequence[str]]:
        return self.source.files

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the file and the line or column that is wrong."""
        groups: dict[str, list[Row]] = {}
        count = 0
        for row in self.source.read(path, split=split)[0]:
            groups.setdefault(row["premise"], []).append(row)
            count += 1
        rows, used = list[Row](), 0
        for premise, group in groups.items():
            right = [number for number, row in enumerate(group, 1) if row["label"] == self.right]
            if len(group) > 1 and len(right) == 1:
                rows.append(choice_row(group[0]["uid"], right[0], premise, [row["hypothesis"] for row in group]))
                used += len(group)
        if not rows:
            raise UserError(
                f"{path}: no premise has several hypotheses and exactly one '{self.right}'; is it the right file?"
            )
        written = write_choices(rows, task=task, split=split, output=output, location=path)
        written.broken += count - used
        return written


def each(row: Callable[[int, Any], Row | None]) -> Callable[[int, Any, str], Iterable[Row | None]]:
    """Makes the `rows` of a RowSource from a function that gives one row for each line, in every split alike."""
    return lambda number, values, split: [row(number, values)]


def choice_row(uid: object, right: int | None, premise: str, choices: Sequence[str]) -> Row:
    """A canonical row of multiple choice. `right` is the number of the right choice from 1; None: not known.

    Raises ValueError for fewer than two choices.
    """
    if len(choices) < 2:
        raise ValueError("fewer than two choices")
    named = {f"choice{number}": choice for number, choice in enumerate(choices, 1)}
    return {"uid": str(uid), "label": "" if right is None else str(right), "premise": premise, **named}


def question_row(number: int, values: Any) -> Row:
    """A row of ARC or CommonsenseQA, as its authors or the hub write it: a stem, and choices with letters or digits."""
    question = values["question"]
    if isinstance(question, str):  # the hub's: two lists
        stem, names, texts = question, values["choices"]["label"], values["choices"]["text"]
    else:
        names, texts = ([choice[key] for choice in question["choices"]] for key in ("label", "text"))
        stem = question["stem"]
    right = names.index(values["answerKey"]) + 1 if values.get("answerKey") else None
    return choice_row(values.get("id", number), right, stem, texts)


@dataclass(frozen=True)
class ColumnSource:
    """Labelled words: one word per line, columns separated by spaces or tabs, a blank line between sentences.

    The first column has the words. ``label`` is the number of the column of labels, counted from the right. ``iob1``:
    the labels are as in CoNLL-2003, where B- is only written between two entities of one type. They are turned into
    IOB2. Lines that begin with ``-DOCSTART-`` are skipped.
    """

    files: Mapping[str, Sequence[str]]
    label: int = 1
    iob1: bool = False

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the line that is wrong."""
        rows = (self._row(number, sentence) for number, sentence in enumerate(self._sentences(path)))
        columns = DATA_FORMATS["words"]
        return write_split(rows, columns, task=task, split=split, output=output, location=path, counted=by_word)

    def _row(self, number: int, sentence: Sequence[tuple[str, str]]) -> Row:
        words, labels = zip(*sentence, strict=True)
        label = " ".join(iob2(labels) if self.iob1 else labels)
        return {"uid": str(number), "label": label, "words": " ".join(words)}

    def _sentences(self, path: Path) -> Iterator[list[tuple[str, str]]]:
        sentence: list[tuple[str, str]] = []
        before = columns = 0
        for number, line in read_lines(path):
            fields = line.split()
            is_word = bool(fields) and fields[0] != "-DOCSTART-"
            if sentence and (number > before + 1 or not is_word):  # read_lines leaves out empty lines
                yield sentence
                sentence = []
            before = number
            if not is_word:
                continue
            columns = columns or max(len(fields), self.label + 1)
            if len(fields) != columns:
                raise UserError(f"{path}:{number}: {len(fields)} columns, expected {columns}; is the file cut off?")
            sentence.append((fields[0], fields[-self.label]))
        if sentence:
            yield sentence


def iob2(labels: Sequence[str]) -> list[str]:
    """Turns IOB1 labels into IOB2, where every entity begins with B-."""
    starts = (
        label.startswith("I-") and (before == "O" or before[2:] != label[2:])
        for before, label in pairwise(["O", *labels])
    )
    return [f"B-{label[2:]}" if start else label for label, start in zip(labels, starts, strict=True)]
