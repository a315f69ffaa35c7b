"""Arrays whose rows come in parts. Many bytes of them are in a temporary file, so that memory need not hold them."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from data_utils.scratch import scratch
from data_utils.spool import Stream


class Appended:
    """Arrays one below the other: many numbers in a file without a name, others in memory. ``files`` closes the file.

    If an array has fewer columns than another, zeros stand in those that it lacks.
    """

    def __init__(self, files: ExitStack) -> None:
        self._files = files
        self._stream: Stream | None = None
        self._parts: list[np.ndarray] = []  # the first array, or all arrays of objects
        self._kinds: list[tuple[tuple[int, ...], np.dtype]] = []

    def append(self, values: np.ndarray) -> None:
        self._kinds.append((values.shape, values.dtype))
        if len(self._kinds) == 1 or values.dtype == object:
            self._parts.append(values)
            return
        if self._stream is None:
            self._stream = Stream(None, self._files)
            self._stream.append(self._parts[0].ravel())
        self._stream.append(values.ravel())

    @property
    def is_empty(self) -> bool:
        """Whether no array was appended."""
        return not self._kinds

    def array(self) -> np.ndarray:
        """All arrays as one."""
        if self._stream is None:
            return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
        content = memoryview(self._stream.buffer())
        rows = sum(shape[0] for shape, _ in self._kinds)
        columns = tuple(map(max, zip(*(shape[1:] for shape, _ in self._kinds), strict=True)))
        if len({(shape[1:], dtype) for shape, dtype in self._kinds}) == 1:
            return np.frombuffer(content, self._kinds[0][1]).reshape(rows, *columns)
        found = scratch((rows, *columns), np.result_type(*(dtype for _, dtype in self._kinds)))
        found[:] = 0
        row = start = 0
        for shape, dtype in self._kinds:
            count = int(np.prod(shape))
            part = np.frombuffer(content, dtype, count, start).reshape(shape)
            where = (slice(row, row + shape[0]), *map(slice, shape[1:]))
            found[where] = part
            row, start = row + shape[0], start + part.nbytes
        return found
