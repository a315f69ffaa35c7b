"""Arrays with a number for each row, which may be many: small ones are in memory, large ones in a temporary file.

The file has no name and goes with the array. The system writes it to disk when memory is needed for something else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike

LARGE = 1 << 22  # bytes from which on an array is in a file
AT_ONCE = 1 << 16  # rows that are worked on together, where all of them would need much memory


def scratch(shape: int | Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """A new array with any content. If the disk has no room for a large one, it is in memory too."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size < LARGE or not hasattr(os, "posix_fallocate"):
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as stream:
            os.posix_fallocate(stream.fileno(), 0, size)  # else a full disk would end the process later
            return np.memmap(stream, dtype, "r+", shape=shape).view(np.ndarray)
    except OSError:
        return np.empty(shape, dtype)


def chunks(rows: int) -> Iterator[slice]:
    """Yields slices that together are all rows, in order."""
    for start in range(0, rows, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, rows))
