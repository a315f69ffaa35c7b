"""Standard output and standard error that may close while a run trains, without an end of the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LastingStream:
    """Passes on to a stream. When its reader has gone, for example ``head`` or a terminal, the text goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._discard()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Sends everything to /dev/null from now on, also what the stream still holds and writes at the end.

        The stream of a notebook has no file that could be replaced; then each text is tried, and lost if it fails.
        """
        try:
            number = self._stream.fileno()
        except (AttributeError, OSError):
            return
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_output() -> Iterator[None]:
    """During the block, a standard output or standard error that is closed stops nothing."""
    streams: tuple[Any, Any] = (sys.stdout, sys.stderr)
    # A stream is None if it was closed before Python started. Python prints nothing then.
    sys.stdout, sys.stderr = lasting = [stream and LastingStream(stream) for stream in streams]
    try:
        yield
    finally:
        for stream in filter(None, lasting):
            stream.flush()
        sys.stdout, sys.stderr = streams
