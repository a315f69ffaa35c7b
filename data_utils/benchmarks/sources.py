"""Where the rows of a task stand, one class per layout of foreign files: each writes a split as canonical rows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from data_utils.benchmarks.tables import Table, open_table
from data_utils.errors import UserError, os_errors
from data_utils.files import read_json, read_lines
from data_utils.rows import SPACES, write_rows
from data_utils.task_types import DATA_FORMATS

NO_GOLD = "-"  # what MNLI, SNLI and XNLI write where the annotators did not agree


FOUND = "found"  # what a question has, beside its canonical row: no column


LAYOUT_ERRORS = (AttributeError, LookupError, TypeError, ValueError)  # of code that reads another layout


Row = Mapping[str, str]


Counted = Callable[[Row], Iterable[str]]  # what the summary counts of a row


@dataclass
class Written:
    """What became of one split."""

    task: str
    split: str
    rows: int = 0
    no_gold: int = 0
    broken: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def cells(self) -> list[str]:
        return [self.task, self.split, str(self.rows), str(self.no_gold), str(self.broken), self._labels()]

    def _labels(self) -> str:
        if set(self.labels) <= {""}:
            return "unlabelled"
        if len(self.labels) > 6:
            return f"{len(self.labels)} different, {min(self.labels)} to {max(self.labels)}"
        return ", ".join(f"{label} {count}" for label, count in sorted(self.labels.items()))


def by_label(row: Row) -> list[str]:
    return [row["label"]]


def by_word(row: Row) -> list[str]:
    return row["label"].split(" ")


def by_answer(row: Row) -> list[str]:
    return [row[FOUND]]


def write_split(
    rows: Iterable[Row | None],
    columns: Sequence[str],
    *,
    task: str,
    split: str,
    output: Path,
    location: object,
    counted: Counted = by_label,
) -> Written:
    """Writes `<output>/<task>_<split>.tsv`: uid, label and the columns given.

    Rows labelled '-', no gold, and None, a broken row, are left out and counted. Raises UserError naming `place`, where
    the rows are from, when none is left.
    """
    written = Written(task, split)

    def labelled() -> Iterator[Row]:
        for row in rows:
            if row is None:
                written.broken += 1
            elif row["label"] == NO_GOLD:
                written.no_gold += 1
            else:
                written.labels.update(counted(row))
                yield row

    kept = labelled()
    first = next(kept, None)
    if first is None:
        raise UserError(f"{location}: no usable rows of {task}; is it the right file, and whole?")
    with os_errors(output, "cannot be written"):
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"{task}_{split}.tsv"
        written.rows = write_rows(path, chain([first], kept), ["uid", "label", *columns])
    return written


@dataclass(frozen=True)
class Source:
    """Where the rows of a task stand.

    `files` holds per split the names to look for; the first that is found counts (`*` as in the shell).
    `premise` to `extra` are names of columns; without the column `uid` rows are numbered from 0, a test file
    without `label` is unlabelled. `bare` names the columns of files without a header, `labels` maps spellings
    to ours, `where` keeps rows with these values, `skip_broken` drops rows with too many or few fields.
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
        return [self.premise] if self.hypothesis is None else [self.premise, self.hypothesis]

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError naming the file and the line or column that is wrong."""
        rows, extra, table = self.read(path, split=split)
        columns = [*DATA_FORMATS["single" if self.hypothesis is None else "pair"], *extra]
        written = write_split(rows, columns, task=task, split=split, output=output, location=path)
        written.broken = table.broken
        return written

    def read(self, path: Path, *, split: str) -> tuple[Iterator[Row], list[str], Table]:
        """The rows of a file, the names of their extra columns, and the table that they are read from."""
        table = open_table(path, marker=self.premise, bare=self.bare, skip_broken=self.skip_broken)
        may_lack_label = "test" in split and self.label not in table.columns
        table.need(*self.texts, *self.where, *([] if may_lack_label else [self.label]))
        extra = [column for column in self.extra if column in table.columns]
        return self.rows(table, extra), extra, table

    def rows(self, table: Iterable[Row], extra: Sequence[str]) -> Iterator[Row]:
        """The rows of `table` under canonical names."""
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
    """Where rows stand whose texts are put together from several fields: JSONL.

    `rows` takes the number of a line from 0, its object and the split, and gives the canonical rows (label "": not
    known; None: left out as broken); an error of LAYOUT_ERRORS in it means that the line is wrong.
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
        """Converts (place, object) pairs. Raises UserError naming the place that is wrong."""
        rows = list[Row | None]()
        for number, (location, values) in enumerate(found):
            try:
                own = list(self.rows(number, values, split))
                for text in chain.from_iterable(row.values() for row in own if row):
                    if not isinstance(text, str):
                        raise TypeError(f"{text!r} where a text is due")
            except LAYOUT_ERRORS as error:
                problem = f"{type(error).__name__}: {error}"
                raise UserError(f"{location}: not a row of {task} ({problem})") from None
            rows += own
        return write_choices(rows, task=task, split=split, counted=self.counted, **where)


@dataclass(frozen=True)
class GroupedSource:
    """Labelled pairs as multiple choice: the second texts of one first text, where exactly one of them is ``right``.

    Other first texts are left out, and their rows counted as broken.
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
        for premise, own in groups.items():
            right = [location for location, row in enumerate(own, 1) if row["label"] == self.right]
            if len(own) > 1 and len(right) == 1:
                rows.append(choice_row(own[0]["uid"], right[0], premise, [row["hypothesis"] for row in own]))
                used += len(own)
        if not rows:
            raise UserError(f"{path}: no first text has several second ones of which one is '{self.right}'")
        written = write_choices(rows, task=task, split=split, output=output, location=path)
        written.broken += count - used
        return written


def each(row: Callable[[int, Any], Row | None]) -> Callable[[int, Any, str], Iterable[Row | None]]:
    """One row per line, the same in every split."""
    return lambda number, values, split: [row(number, values)]


def write_choices(rows: Sequence[Row | None], **options: Any) -> Written:
    """As ``write_split``, for rows that may have more choices than others."""
    longest = max((row for row in rows if row), key=len, default={})
    columns = [column for column in longest if column not in ("uid", "label", FOUND)]
    filled = (row and {**dict.fromkeys(columns, ""), **row} for row in rows)
    return write_split(filled, columns, **options)


def choice_row(uid: object, right: int | None, premise: str, choices: Sequence[str]) -> Row:
    """A canonical row of multiple choice; `right` counts from 1, None: not known. Raises ValueError for one choice."""
    if len(choices) < 2:
        raise ValueError("fewer than two choices")
    named = {f"choice{location}": choice for location, choice in enumerate(choices, 1)}
    return {"uid": str(uid), "label": "" if right is None else str(right), "premise": premise, **named}


def question_row(number: int, values: Any) -> Row:
    """A row of ARC or CommonsenseQA, as authors or hub write it: a stem, and choices with letters or digits."""
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
    """Where labelled words stand: a word a line, its columns apart by spaces or tabs, a blank line between sentences.

    The words are in the first column; ``label`` is the column of the labels, counted from the right. ``iob1``: labels
    as in CoNLL-2003, where B- stands only between two entities of one type; they become IOB2. Lines that begin with
    ``-DOCSTART-`` are no words.
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
                raise UserError(f"{path}:{number}: {len(fields)} columns where {columns} are due; is the file cut off?")
            sentence.append((fields[0], fields[-self.label]))
        if sentence:
            yield sentence


def iob2(labels: Sequence[str]) -> list[str]:
    """IOB1 → IOB2: every entity begins with B-."""
    starts = (
        label.startswith("I-") and (before == "O" or before[2:] != label[2:])
        for before, label in pairwise(["O", *labels])
    )
    return [f"B-{label[2:]}" if start else label for label, start in zip(labels, starts, strict=True)]


@dataclass(frozen=True)
class SquadSource:
    """Where questions on contexts stand: JSON in the layout of SQuAD 1.1 and 2.0.

    An answer that does not stand where the file says is taken from the nearest place where it does and counted as
    moved; a question none of whose answers is found is left out and counted as broken.
    """

    files: Mapping[str, Sequence[str]]

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError when it is not in that layout."""
        document = read_json("\n".join(line for _, line in read_lines(path)), str(path))
        try:
            rows = [
                squad_row(question, paragraph["context"])
                for article in document["data"]
                for paragraph in article["paragraphs"]
                for question in paragraph["qas"]
            ]
        except LAYOUT_ERRORS as error:
            raise UserError(f"{path}: not in SQuAD's layout ({type(error).__name__}: {error})") from None
        columns = DATA_FORMATS["question_context"]
        return write_split(rows, columns, task=task, split=split, output=output, location=path, counted=by_answer)


def squad_row(question: Mapping[str, Any], context: str) -> Row | None:
    """The row of a question in SQuAD's layout and what it has; None where no answer is found in the context."""
    context = context.translate(SPACES)
    answers = [(answer["answer_start"], answer["text"].translate(SPACES)) for answer in question["answers"]]
    found = [(location, text) for start, text in answers if text and (location := nearest(text, context, start)) >= 0]
    if answers and not found:
        return None
    moved = any(answer not in answers for answer in found)
    what = ("answered, moved" if moved else "answered") if answers else "no answer"
    label = json.dumps([list(answer) for answer in found], ensure_ascii=False)
    texts = {"question": question["question"].strip(), "context": context}
    return {"uid": str(question["id"]), "label": label, **texts, FOUND: what}


def nearest(text: str, context: str, start: int) -> int:
    """Where the text stands in the context, nearest to ``start``; −1 where it does not."""
    if context.startswith(text, start):
        return start
    locations = [match.start() for match in re.finditer(re.escape(text), context)]
    return min(locations, key=lambda location: abs(location - start), default=-1)


AnySource = Source | GroupedSource | RowSource | ColumnSource | SquadSource
