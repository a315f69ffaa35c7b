"""Progress bars. Where standard error is no terminal, such as a log file, a bar is a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_EVERY_S = 10.0  # seconds between two lines of a bar in a file

_is_inside = ContextVar("is_inside", default=False)


@contextmanager
def inside_bar() -> Iterator[None]:
    """Hides all bars of the block, because a bar around it shows the same work."""
    before = _is_inside.set(True)
    try:
        yield
    finally:
        _is_inside.reset(before)


class Lines:
    """Passes states of a bar on to a stream as lines: one every ``LINE_EVERY_S`` seconds, and the last one."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._written, self._held_back = stream, -LINE_EVERY_S, ""

    def write(self, text: str) -> int:
        now, state = time.monotonic(), text.strip()  # a bar returns to the start of its line, and clears it with spaces
        if state and now - self._written < LINE_EVERY_S:
            self._held_back = state
        elif state or (text == "\n" and self._held_back):  # a bar that stays on a terminal ends its line
            self._stream.write(f"{state or self._held_back}\n")
            self._written, self._held_back = now, ""
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def bar(
    items: Iterable[T] | None,
    what: str,
    unit: str,
    *,
    count: int | None = None,
    hidden: bool = False,
    delay: float = 1.0,
    **options: Any,
) -> tqdm[T]:
    """A progress bar on standard error: over ``items``, or one that the caller moves on if they are None.

    Args:
        what: the name of the work, in front of the bar.
        unit: what an item is called.
        count: how many items there are, if ``items`` does not say it.
        hidden: shows nothing.
        delay: seconds before the bar appears, so that short work shows none.
        options: further arguments of ``tqdm``.
    """
    stream = sys.stderr
    if stream is not None and not stream.isatty():
        options = {"file": Lines(stream), "mininterval": LINE_EVERY_S, "ncols": 100, **options}
        delay = max(delay, LINE_EVERY_S)
    options = {"leave": False, **options}
    hidden = hidden or _is_inside.get() or stream is None
    return tqdm(items, what, count, unit=unit, delay=delay, disable=hidden, **options)
