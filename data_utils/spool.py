"""Joins Arrow batches to one batch whose columns are in temporary files, so that memory need not hold all rows.

The files have no names and go with the batch. A file that Arrow writes from it has the bytes that it would have if all
rows had been in memory.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_utils.errors import UserError

LONGEST_TEXTS = 2**31 - 1  # bytes of all texts of a column


def joined(batches: Iterable[pa.RecordBatch], folder: Callable[[], Path | None]) -> pa.RecordBatch:
    """One batch with the rows of all batches, which have the same columns. There is at least one.

    ``folder``: says, if there are several, where the temporary files are; None: where the system has its own.

    Raises:
        OSError: the files cannot be written.
        UserError: a column has too many bytes of text.
    """
    batches = iter(batches)
    first, second = next(batches), next(batches, None)
    if second is None:
        return first
    chosen = folder()
    with ExitStack() as files:  # what is mapped stays when its file is closed
        spools = [Spool(field.type, lambda: Stream(chosen, files)) for field in first.schema]
        for batch in chain((first, second), batches):
            for spool, column in zip(spools, batch.columns, strict=True):
                spool.append(column)
        return pa.RecordBatch.from_arrays([spool.array() for spool in spools], schema=first.schema)


class Stream:
    """A temporary file without a name, to which bytes are appended. ``files`` closes it."""

    def __init__(self, folder: Path | None, files: ExitStack) -> None:
        self.file = files.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115

    def append(self, content: Any) -> None:
        self.file.write(memoryview(content).cast("B"))

    def buffer(self) -> pa.Buffer:
        """All bytes, mapped from the file."""
        self.file.flush()
        if not self.file.tell():
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))


class Spool:
    """Appends arrays of one Arrow type to files, and gives them back as one array.

    The types are those of prepared rows: numbers, texts, lists without a null in them, and dictionaries of texts.
    ``stream`` opens a new file.
    """

    def __init__(self, kind: pa.DataType, stream: Callable[[], Stream], *, nested: bool = False) -> None:
        self.kind, self.count, self.nulls, self.end = kind, 0, 0, 0
        self.valid, self.values = None if nested else stream(), stream()
        self.child: Spool | None = None
        self.offset_type = np.dtype(np.int64 if pa.types.is_large_list(kind) else np.int32)
        if pa.types.is_dictionary(kind):
            self.offset_type = np.dtype(kind.index_type.to_pandas_dtype())
            self.child = Spool(kind.value_type, stream, nested=True)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            self.child = Spool(kind.value_type, stream, nested=True)
        elif pa.types.is_string(kind):
            self.child = Spool(pa.uint8(), stream, nested=True)
        if self.has_offsets:
            self.values.append(np.zeros(1, self.offset_type))

    @property
    def has_offsets(self) -> bool:
        return self.child is not None and not pa.types.is_dictionary(self.kind)

    def append(self, array: pa.Array) -> None:
        self.count += len(array)
        if self.valid is not None:
            self.nulls += array.null_count
            self.valid.append(np.asarray(array.is_valid()).view(np.uint8))
        if self.child is None:
            width = self.kind.bit_width // 8
            self.values.append(array.buffers()[1][width * array.offset : width * (array.offset + len(array))])
        elif self.has_offsets:
            self._append_parts(array)
        else:
            self.values.append(array.indices.to_numpy() + self.offset_type.type(self.child.count))
            self.child.append(array.dictionary)

    def _append_parts(self, array: pa.Array) -> None:
        assert self.child is not None
        offsets = np.frombuffer(array.buffers()[1], self.offset_type)[array.offset :][: len(array) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        if self.end + last - first > LONGEST_TEXTS and self.offset_type == np.int32:
            raise UserError(f"all texts of a column have more than {LONGEST_TEXTS:,} bytes; divide the file of rows")
        self.values.append(offsets[1:] + self.offset_type.type(self.end - first))
        self.end += last - first
        if pa.types.is_string(self.kind):
            if last > first:
                self.child.values.append(array.buffers()[2][first:last])
        else:
            self.child.append(array.values.slice(first, last - first))

    def array(self) -> pa.Array:
        """All arrays as one."""
        valid = None
        if self.valid is not None and self.nulls:
            valid = pa.py_buffer(np.packbits(np.frombuffer(self.valid.buffer(), np.uint8), bitorder="little"))
        buffers = [valid, self.values.buffer()]
        if self.child is None:
            return pa.Array.from_buffers(self.kind, self.count, buffers, self.nulls)
        if pa.types.is_string(self.kind):
            return pa.Array.from_buffers(self.kind, self.count, [*buffers, self.child.values.buffer()], self.nulls)
        child = self.child.array()
        if not self.has_offsets:
            indices = pa.Array.from_buffers(self.kind.index_type, self.count, buffers, self.nulls)
            return pa.DictionaryArray.from_arrays(indices, child)
        return pa.Array.from_buffers(self.kind, self.count, buffers, self.nulls, children=[child])
