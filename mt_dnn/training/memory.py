"""Memory that one step frees and the next one needs again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as in malloc.h
NEVER, LARGEST = -1, 2**30


def keep_freed_memory() -> bool:
    """Lets the C library keep what a step frees, for the next step. Returns whether this library can.

    The GNU C library gives freed memory back to the system, and then the system has to clear each page again. Blocks of
    more than ``LARGEST`` bytes are still given back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, NEVER))
