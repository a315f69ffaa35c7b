"""Reads Parquet files row by row. A small file may hold much text, so the bytes that are in memory are limited too."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_utils.column_names import check_twice
from data_utils.errors import UserError, os_errors, shortened
from data_utils.files import LONGEST_ROW, TOO_LONG, open_file

AT_ONCE = 1000  # rows that are in memory at once
MOST_BYTES = 50_000_000  # of these rows, as the file says before it is decompressed
START = b"PAR1"  # how a Parquet file begins
# Bytes of a value in memory, by its type in the file. Of a text it is the number that it has in a dictionary.
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


def read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a Parquet file, (location, value of each column). Only some of them are in memory at once.

    Raises:
        UserError: the file cannot be read, is no Parquet file, has two columns of one name, has a value that is too
            long or not Python's, or is compressed and has more bytes than there is room for.
    """
    number = 0
    with os_errors(path, "cannot be read"):
        try:
            with open_file(path) as file, tempfile.TemporaryFile() as unpacked:
                if path.suffix == ".gz":  # Parquet is read from its end, which a compressed stream cannot
                    _unpack(path, gzip.GzipFile(fileobj=file), unpacked)
                for batch in _batches(path, unpacked if path.suffix == ".gz" else file):
                    for row in _python_rows(path, batch, number):
                        number += 1
                        yield f"{path}: row {number}", row
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is damaged or cut off ({error})") from None
        except (pa.ArrowException, ValueError) as error:
            raise UserError(f"{path}: not a Parquet file, or damaged ({_first_line(error)})") from None


def _unpack(path: Path, stream: gzip.GzipFile, unpacked: Any) -> None:
    """Decompresses a stream into a file, which may take half of the room that the disk has."""
    start = stream.read(len(START))
    if start != START:
        raise ValueError(f"it does not begin with {START.decode()}")
    unpacked.write(start)
    most = shutil.disk_usage(unpacked.fileno()).free // 2
    while block := stream.read(1 << 20):
        if unpacked.tell() + len(block) > most:
            raise UserError(
                f"{path}: unpacked, it has more than {most:,} bytes, half of the room in {tempfile.gettempdir()}; "
                "make room, or write it as .parquet without .gz"
            )
        unpacked.write(block)


def _batches(path: Path, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Yields the rows in batches of at most ``AT_ONCE`` rows and about ``LONGEST_ROW`` bytes of text.

    A text that rows share is in a dictionary, and there once. A few bytes may stand for gigabytes of rows.

    Raises UserError if two columns have the same name.
    """
    import pyarrow.parquet as pq  # other files do not need it

    plain = pq.ParquetFile(file)
    check_twice(path, plain.schema_arrow.names)
    leaves, kinds = plain.schema, plain.schema_arrow.types
    texts = [number for number in range(len(leaves)) if leaves.column(number).physical_type == "BYTE_ARRAY"]
    parquet = pq.ParquetFile(file, read_dictionary=texts)
    at_once = int(max(1, min(AT_ONCE, MOST_BYTES / max(_bytes_per_row(parquet), 1))))
    for group in range(parquet.num_row_groups):  # each has dictionaries of its own
        for batch in parquet.iter_batches(at_once, row_groups=[group]):
            ends, start = np.zeros(len(batch) + 1, np.int64), 0
            ends[1:] = sum(map(_text_sizes, batch.columns), np.zeros(len(batch), np.int64)).cumsum()
            if ends[-1] <= LONGEST_ROW:
                columns = list(map(_plain, batch.columns, kinds))
                yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
                continue
            while start < len(batch):
                stop = max(start + 1, int(np.searchsorted(ends, ends[start] + LONGEST_ROW, side="right")) - 1)
                part = batch.slice(start, stop - start)
                columns = [column.dictionary_decode() if _is_shared(column) else column for column in part.columns]
                yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
                start = stop


def _plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column without dictionaries of texts, which Python reads faster, if Arrow can make it of the type ``kind``."""
    if _is_shared(column):
        return column.dictionary_decode()
    try:
        return column.cast(kind)
    except pa.ArrowNotImplementedError:
        return column


def _bytes_per_row(parquet: Any) -> float:
    """The bytes of a row, on average over the group of rows that has most. A text that is shared counts once."""
    widths = []
    for number in range(len(parquet.schema)):
        leaf = parquet.schema.column(number)
        widths.append(WIDTHS.get(leaf.physical_type, leaf.length))
    found = 0.0
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        unpacked = sum(group.column(leaf).num_values * width for leaf, width in enumerate(widths))
        found = max(found, max(group.total_byte_size, unpacked) / max(group.num_rows, 1))
    return found


def _is_text(kind: pa.DataType) -> bool:
    """Whether values are texts or bytes."""
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)


def _is_shared(column: pa.Array) -> bool:
    return pa.types.is_dictionary(column.type) and _is_text(column.type.value_type)


def _text_sizes(column: pa.Array) -> Any:
    """The bytes of the texts in each value of a column, (N,), also of those in lists and structs."""
    sizes, kind = np.zeros(len(column), np.int64), column.type
    if _is_shared(column):
        if len(column.dictionary):
            lengths = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
            sizes += lengths[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    elif _is_text(kind):
        sizes += pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            sizes += _text_sizes(column.field(number))
    elif pa.types.is_nested(kind):
        if pa.types.is_fixed_size_list(kind):
            offsets = (column.offset + np.arange(len(column) + 1)) * kind.list_size
        else:
            offsets = column.offsets.to_numpy()
        parts = [column.keys, column.items] if pa.types.is_map(kind) else [column.values]
        ends = np.concatenate([[0], sum(map(_text_sizes, parts)).cumsum()])
        sizes += np.diff(ends[offsets])
    return sizes


def _python_rows(path: Path, batch: Any, before: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of an Arrow batch. ``before``: how many rows of the file come before it."""
    # Only a row alone has so many bytes: more than its characters may have.
    if len(batch) == 1 and any(_text_sizes(column)[0] > 4 * LONGEST_ROW for column in batch.columns):
        raise UserError(f"{path}: row {before + 1}: {TOO_LONG}")
    try:
        rows = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError, NotImplementedError):  # one row has no value of Python's
        rows = (row for number in range(len(batch)) for row in _python_row(path, batch, before, number))
    for number, row in enumerate(rows, before + 1):
        if any(isinstance(value, str | bytes) and len(value) > LONGEST_ROW for value in row.values()):
            raise UserError(f"{path}: row {number}: {TOO_LONG}")
        yield row


def _python_row(path: Path, batch: Any, before: int, number: int) -> list[dict[str, Any]]:
    try:
        return batch.slice(number, 1).to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: row {before + number + 1}: not UTF-8 ({error.reason})") from None
    except (ValueError, OverflowError, NotImplementedError) as error:
        raise UserError(
            f"{path}: row {before + number + 1}: a value cannot be read ({_first_line(error)}); write it as a text"
        ) from None


def _first_line(error: Exception) -> str:
    return shortened((str(error).splitlines() or [type(error).__name__])[0])
