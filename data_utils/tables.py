"""Reading other people's tables: TSV with and without a header, and JSONL; columns are known by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.errors import UserError, os_errors

ANNOTATORS = ("label1", "label2", "label3", "label4", "label5")


@dataclass
class Table:
    """The rows of one file as dictionaries of text.

    `skip_broken` counts rows with too few or too many fields in `broken`; without it the first is an error.
    """

    path: Path
    columns: tuple[str, ...]
    has_header: bool
    skip_broken: bool = False
    broken: int = 0
    required: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Raises UserError with the line number of a row that cannot be read."""
        for number, line in read_lines(self.path):
            if number == 1 and self.has_header:
                continue
            fields = line.split("\t")
            if len(fields) == len(self.columns):
                yield dict(zip(self.columns, fields, strict=True))
            elif self.skip_broken:
                self.broken += 1
            else:
                raise UserError(
                    f"{self.path}:{number}: {len(fields)} columns where {len(self.columns)} are due "
                    f"({', '.join(self.columns)}); is the file cut off?"
                )

    def need(self, *columns: str) -> None:
        """Raises UserError for the first of `columns` that the file does not have."""
        self.required = columns
        for column in columns:
            if column not in self.columns:
                raise UserError(f"{self.path}: no column '{column}' among {', '.join(self.columns)}")


class JsonTable(Table):
    """One JSON object per line; a list of annotators' labels becomes the columns label1 to label5."""

    def __iter__(self) -> Iterator[dict[str, str]]:
        for number, line in read_lines(self.path):
            row = read_object(line, f"{self.path}:{number}")
            for column in self.required:
                if column not in row:
                    raise UserError(f"{self.path}:{number}: no '{column}' in this row")
            yield row


def open_table(path: Path, *, marker: str, bare: Sequence[str] = (), skip_broken: bool = False) -> Table:
    """The table at `path`: JSONL by its name or its first byte, else TSV, whose first line is the header.

    A file whose first line lacks the column `marker` has no header when `bare` names its columns.
    Raises UserError for an empty file.
    """
    _, first = next(read_lines(path), (0, ""))
    if not first:
        raise UserError(f"{path}: the file is empty")
    if first.startswith("{"):
        return JsonTable(path, tuple(read_object(first, f"{path}:1")), has_header=False)
    header = tuple(name.strip() for name in first.split("\t"))
    has_header = marker in header or not bare
    return Table(path, header if has_header else tuple(bare), has_header, skip_broken)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, line) of each line that is not blank; only a newline byte ends a line."""
    with os_errors(path, "cannot be read"):
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    try:
                        line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                    except UnicodeDecodeError as error:
                        raise UserError(f"{path}:{number}: not UTF-8 ({error.reason})") from None
                    if line:
                        yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is damaged or cut off ({error})") from None


def read_json(text: str, place: str) -> dict[str, Any]:
    """A JSON object, such as a line of JSONL."""
    try:
        values = json.loads(text)
        if "\\u" in text:  # only an escape can stand for half of a character: the file is UTF-8
            json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: half of a character, {error.object[error.start]!r}; not text") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{place}: a JSON object is expected, not {type(values).__name__}")
    return values


def read_object(line: str, place: str) -> dict[str, str]:
    """One line of JSONL, its values as text; null is empty, and a nested value is no column."""
    values = read_json(line, place)
    if isinstance(values.get("annotator_labels", ""), list | None):
        votes = [*(values["annotator_labels"] or ()), *[""] * len(ANNOTATORS)]
        values = {**values, **dict(zip(ANNOTATORS, votes, strict=False))}
    flat = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    return {name: "" if value is None else str(value) for name, value in flat.items()}
