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

from data_utils.errors import UserError, os_errors, shortened
from data_utils.files import LONGEST_ROW, TOO_LONG, open_file

AT_ONCE = 1000  # rows that are in memory at once
MOST_BYTES = 50_000_000  # of these rows, as the file says before it is decompressed
START = b"PAR1"  # how a Parquet file begins


def read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a Parquet file, (location, value of each column). Only some of them are in memory at once.

    Raises:
        UserError: the file cannot be read, is no Parquet file, or has a value that is too long or not Python's.
    """
    number = 0
    with os_errors(path, "cannot be read"):
        try:
            with open_file(path) as file, tempfile.TemporaryFile() as unpacked:
                if path.suffix == ".gz":  # Parquet is read from its end, which a compressed stream cannot
                    _unpack(gzip.GzipFile(fileobj=file), unpacked)
                for batch in _batches(unpacked if path.suffix == ".gz" else file):
                    for row in _python_rows(path, batch, number):
                        number += 1
                        yield f"{path}: row {number}", row
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is damaged or cut off ({error})") from None
        except (pa.ArrowException, ValueError) as error:
            raise UserError(f"{path}: not a Parquet file, or damaged ({_first_line(error)})") from None


def _unpack(stream: gzip.GzipFile, unpacked: Any) -> None:
    start = stream.read(len(START))
    if start != START:
        raise ValueError(f"it does not begin with {START.decode()}")
    unpacked.write(start)
    shutil.copyfileobj(stream, unpacked)


def _batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Yields the rows in batches of at most ``AT_ONCE`` rows and about ``LONGEST_ROW`` bytes of text.

    A text that rows share is in a dictionary, and there once. A few bytes may stand for gigabytes of rows.
    """
    import pyarrow.parquet as pq  # other files do not need it

    names = [field.name for field in pq.ParquetFile(file).schema_arrow if _is_text(field.type)]
    parquet = pq.ParquetFile(file, read_dictionary=names)
    groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
    bytes_per_row = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    at_once = int(max(1, min(AT_ONCE, MOST_BYTES / max(bytes_per_row, 1))))
    for batch in parquet.iter_batches(at_once):
        sizes = np.zeros(len(batch) + 1, np.int64)
        for column in batch.columns:
            sizes[1:] += _text_sizes(column)
        ends, start = sizes.cumsum(), 0
        while start < len(batch):
            stop = max(start + 1, int(np.searchsorted(ends, ends[start] + LONGEST_ROW, side="right")) - 1)
            part = batch.slice(start, stop - start)
            columns = [column.dictionary_decode() if _is_shared(column) else column for column in part.columns]
            yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
            start = stop


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_shared(column: pa.Array) -> bool:
    return pa.types.is_dictionary(column.type) and _is_text(column.type.value_type)


def _text_sizes(column: pa.Array) -> Any:
    """The bytes of text of each row of a column, (N,) or 0."""
    if _is_shared(column):
        if not len(column.dictionary):
            return 0
        sizes = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
        return sizes[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    return pc.binary_length(column).fill_null(0).to_numpy() if _is_text(column.type) else 0


def _python_rows(path: Path, batch: Any, before: int) -> Iterator[dict[str, Any]]:
    """Yields the rows of an Arrow batch. ``before``: how many rows of the file come before it."""
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
