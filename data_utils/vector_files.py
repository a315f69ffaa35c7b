"""Files of vectors that grow by parts: .npy, .parquet and .safetensors.

A file is complete or absent (``files.replacing``). Only one part is in memory.
"""

from __future__ import annotations

import io
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_utils.errors import UserError
from data_utils.files import replacing

HEADER = 256  # bytes of the header of a .safetensors file, its length before it left out

Append = Callable[[Sequence[str], np.ndarray], None]  # adds the names of n rows and their vectors, (n, H)


class _File(Protocol):
    """An open file. The first part decides the size and the type of all vectors."""

    def append(self, uids: Sequence[str], vectors: np.ndarray) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None:
        """Called after a failure, in place of ``finish`` or after it."""


@contextmanager
def vector_file(path: Path) -> Iterator[Append]:
    """Gives a function that adds rows to a file of vectors, whose format is its ending.

    ``.npy`` and ``.safetensors`` hold one array (N, H), in the latter it is named ``vectors``. ``.parquet`` has the
    columns ``uid`` and ``vector``.

    Raises:
        UserError: another ending, or the file cannot be written.
        ValueError: rows of another type or size than the first.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the name must end in {', '.join(FORMATS)}")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        file = FORMATS[path.suffix](stream)
        kinds: set[tuple[np.dtype[Any], int]] = set()

        def append(uids: Sequence[str], vectors: np.ndarray) -> None:
            kinds.add((vectors.dtype, vectors.shape[1]))
            if len(kinds) > 1:
                raise ValueError(f"{path}: vectors of {vectors.shape[1]} {vectors.dtype} after others")
            file.append(uids, vectors)

        try:
            yield append
            file.finish()
        except BaseException:
            file.abandon()
            raise


class _Array(_File):
    """An array behind a header with its shape, which is written again when the number of rows is known."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.rows, self.begun, self.first = stream, 0, False, np.empty((0, 0), np.float32)

    def append(self, uids: Sequence[str], vectors: np.ndarray) -> None:
        if not self.begun:
            self.begun, self.first = True, vectors[:0]
            self.stream.write(self.header())
        self.stream.write(np.ascontiguousarray(vectors).data)
        self.rows += len(vectors)

    def finish(self) -> None:
        content = self.header()
        self.stream.seek(0)
        self.stream.write(content)

    @abstractmethod
    def header(self) -> bytes:
        """The bytes before the array. They are as many for each number of rows."""


class _Npy(_Array):
    def header(self) -> bytes:
        """The header of NumPy's format, which leaves room for a number of rows that grows."""
        written = io.BytesIO()
        shape = {"shape": (self.rows, self.first.shape[1]), "fortran_order": False, "descr": self.first.dtype.str}
        np.lib.format.write_array_header_1_0(written, shape)
        return written.getvalue()


class _Safetensors(_Array):
    def header(self) -> bytes:
        size, width = self.rows * self.first[:0].shape[1] * self.first.itemsize, self.first.shape[1]
        kind = {"float32": "F32", "float64": "F64"}[self.first.dtype.name]
        content = {"vectors": {"dtype": kind, "shape": [self.rows, width], "data_offsets": [0, size]}}
        return HEADER.to_bytes(8, "little") + json.dumps(content).encode().ljust(HEADER)


class _Parquet(_File):
    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.writer: pq.ParquetWriter | None = None

    def append(self, uids: Sequence[str], vectors: np.ndarray) -> None:
        kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
        schema = pa.schema({"uid": pa.string(), "vector": kind})
        self.writer = self.writer or pq.ParquetWriter(self.stream, schema)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind)
        self.writer.write_table(pa.table([pa.array(uids, pa.string()), column], schema=schema))

    def finish(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def abandon(self) -> None:
        if self.writer is not None:
            self.writer.is_open = False  # it would write the end of the file when it is collected


FORMATS: Mapping[str, Callable[[BinaryIO], _File]] = {
    ".npy": _Npy,
    ".parquet": _Parquet,
    ".safetensors": _Safetensors,
}
