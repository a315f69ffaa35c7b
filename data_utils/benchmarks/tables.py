"""Reads other people's tables: TSV with and without a header, and JSONL. Columns have names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.column_names import check_twice
from data_utils.errors import UserError
from data_utils.files import as_text, read_json, read_lines

ANNOTATORS = ("label1", "label2", "label3", "label4", "label5")


@dataclass
class Table:
    """The rows of one file, as dictionaries of text.

    With `skip_broken`, rows with too few or too many fields are skipped and counted in `broken`. Without it, the first
    such row is an error.
    """

    path: Path
    columns: tuple[str, ...]
    has_header: bool
    skip_broken: bool = False
    broken: int = 0
    required: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Yields the rows. Raises UserError with the line number of a row that cannot be read."""
        for count, (number, line) in enumerate(read_lines(self.path)):
            if count == 0 and self.has_header:
                continue
            fields = line.split("\t")
            if len(fields) == len(self.columns):
                yield dict(zip(self.columns, fields, strict=True))
            elif self.skip_broken:
                self.broken += 1
            else:
                raise UserError(
                    f"{self.path}:{number}: {len(fields)} columns, expected {len(self.columns)} "
                    f"({', '.join(self.columns)}); is the file cut off?"
                )

    def need(self, *columns: str) -> None:
        """Raises UserError if the file lacks one of `columns`, or has it twice."""
        self.required = columns
        check_twice(self.path, [name for name in self.columns if name in columns])
        for column in columns:
            if column not in self.columns:
                raise UserError(f"{self.path}: no column '{column}' among {', '.join(self.columns)}")


class JsonTable(Table):
    """One JSON object per line. A list of annotators' labels becomes the columns label1 to label5."""

    def __iter__(self) -> Iterator[dict[str, str]]:
        for number, line in read_lines(self.path):
            row = read_voted(line, f"{self.path}:{number}")
            for column in self.required:
                if column not in row:
                    raise UserError(f"{self.path}:{number}: no '{column}' in this row")
            yield row


def read_voted(line: str, location: str) -> dict[str, str]:
    """Reads a line of JSONL as text by column. The votes of SNLI's annotators become the columns label1 to label5."""
    values = read_json(line, location)
    if isinstance(values.get("annotator_labels", ""), list | None):
        votes = [*(values["annotator_labels"] or ()), *[""] * len(ANNOTATORS)]
        values = {**values, **dict(zip(ANNOTATORS, votes, strict=False))}
    return as_text(values)


def open_table(path: Path, *, marker: str, bare: Sequence[str] = (), skip_broken: bool = False) -> Table:
    """Opens the table at `path`: JSONL if it begins with `{`, else TSV whose first line is the header.

    `bare`: the columns of files without a header. If it is given, a first line without the column `marker` is a row.
    Raises UserError for an empty file.
    """
    _, first = next(read_lines(path), (0, ""))
    if not first:
        raise UserError(f"{path}: the file is empty")
    if first.startswith("{"):
        return JsonTable(path, tuple(read_voted(first, f"{path}:1")), has_header=False)
    header = tuple(name.strip() for name in first.split("\t"))
    has_header = marker in header or not bare
    return Table(path, header if has_header else tuple(bare), has_header, skip_broken)
