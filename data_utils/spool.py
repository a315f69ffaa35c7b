"""Joins Arrow batches to one batch whose large columns are in temporary files, so that memory need not hold all rows.

The files have no names and go with the batch. A file that Arrow writes from it has the bytes that it would have if all
rows had been in memory.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_utils import scratch
from data_utils.errors import READ_ONLY, UserError

MOST_PARTS = 2**31 - 1  # bytes of all texts of a column, or entries of all its lists


def joined(batches: Iterable[pa.RecordBatch], folder: Callable[[], Path | None]) -> pa.RecordBatch:
    """One batch with the rows of all batches, which have the same columns. There is at least one.

    ``folder``: says, if there are several, where the temporary files are, see ``Stream``.

    Raises:
        OSError: the files cannot be written.
        UserError: a column has too many bytes of text, or too many entries.
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
    """Bytes that are appended: few of them are in memory, many in a temporary file without a name.

    Args:
        folder: where the file is. None, or one that may only be read: where the system has its own files. If there is
            no room either, the bytes stay in memory.
        files: closes the file. What is mapped stays, and needs no open file.
    """

    def __init__(self, folder: Path | None, files: ExitStack) -> None:
        self._folder, self._files = folder, files
        self._file: FileIO | None = None
        self._written = 0  # bytes in the file
        self._memory = bytearray()  # the bytes after those in the file
        self._is_refused = False

    def append(self, content: Any) -> None:
        """Appends the bytes of a one-dimensional array or buffer.

        Raises:
            OSError: ``folder`` has no room, or cannot be written for another reason than that it may only be read.
        """
        self._memory += memoryview(content).cast("B")
        if not self._is_refused and (self._file is not None or len(self._memory) >= scratch.LARGE):
            self._write()

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            rest = memoryview(self._memory)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            if self._folder is not None:
                raise
            self._is_refused = True
            return
        self._written += len(self._memory)
        self._memory = bytearray()

    def _open(self) -> FileIO:
        try:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            if self._folder is None or error.errno not in READ_ONLY:
                raise
            self._folder = None
            return self._open()
        return self._files.enter_context(file)

    def buffer(self) -> pa.Buffer:
        """All bytes, in memory or mapped from the file."""
        if self._file is None or not self._written:
            return pa.py_buffer(memoryview(self._memory).toreadonly())
        with pa.memory_map(f"/dev/fd/{self._file.fileno()}") as source:  # Python's mapping would keep a file open
            found = source.read_buffer(self._written)
        return pa.py_buffer(b"".join((found, self._memory))) if self._memory else found


class Spool:
    """Appends arrays of one Arrow type to files, and gives them back as one array.

    The types are those of prepared rows: numbers, texts, lists without a null in them, and dictionaries of texts.
    ``stream`` opens a new file.
    """

    def __init__(self, kind: pa.DataType, stream: Callable[[], Stream], *, nested: bool = False) -> None:
        self.kind, self.count, self.nulls, self.end = kind, 0, 0, 0
        self.valid, self.values = None if nested else stream(), stream()
        self.child: Spool | None = None
        self.numbers: dict[bytes, int] = {}  # by the hash of a text, its number in a dictionary
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
        if self.valid is not None and (self.nulls or array.null_count):
            if not self.nulls:
                self.valid.append(np.ones(self.count, np.uint8))
            self.nulls += array.null_count
            self.valid.append(np.asarray(array.is_valid()).view(np.uint8))
        self.count += len(array)
        if self.child is None:
            width = self.kind.bit_width // 8
            self.values.append(array.buffers()[1][width * array.offset : width * (array.offset + len(array))])
        elif self.has_offsets:
            self._append_parts(array)
        else:
            self._append_indices(array)

    def _append_indices(self, array: pa.DictionaryArray) -> None:
        """Texts that are in the dictionary keep their numbers. Others follow."""
        assert self.child is not None
        hashes = [hashlib.blake2b(text.as_buffer(), digest_size=16).digest() for text in array.dictionary]
        known = len(self.numbers)
        numbers = np.array([self.numbers.setdefault(key, len(self.numbers)) for key in hashes], self.offset_type)
        self.values.append(numbers[array.indices.to_numpy()])
        if len(self.numbers) > known:
            self.child.append(array.dictionary.filter(pa.array(numbers >= known)))

    def _append_parts(self, array: pa.Array) -> None:
        assert self.child is not None
        offsets = np.frombuffer(array.buffers()[1], self.offset_type)[array.offset :][: len(array) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        if self.end + last - first > MOST_PARTS and self.offset_type == np.int32:
            what, parts = ("texts", "bytes") if pa.types.is_string(self.kind) else ("lists", "entries")
            raise UserError(f"all {what} of a column have more than {MOST_PARTS:,} {parts}; divide the file of rows")
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
