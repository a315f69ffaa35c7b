"""Sees each call of a process that changes files below a folder, and lets one of them fail.

Python itself tells audit hooks of calls with a path before it makes them, whichever function has asked for them. It
does not tell of writes and flushes, so files that are opened for writing get a stream that does, and ``os.fsync`` and
``os.sendfile`` are replaced. Libraries that write without Python (safetensors, tokenizers, pyarrow) are seen where they
begin to write. Then a limit of file sizes makes the kernel itself refuse what they write.

Not seen: what a library without Python does besides (its fsync, for example), and writes through a memory map.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import safetensors.numpy
import safetensors.torch
import tokenizers

from tests.cuts import limit_files

FULL, BROKEN, DENIED, KILLED = "ENOSPC", "EIO", "EACCES", "SIGKILL"
KINDS = {
    "open": (FULL, BROKEN, DENIED, KILLED),
    "write": (FULL, BROKEN, KILLED),
    "native write": (FULL, KILLED),
    "fsync": (FULL, BROKEN, KILLED),
    "truncate": (BROKEN, KILLED),
    "rename": (FULL, BROKEN, DENIED, KILLED),
    "unlink": (BROKEN, DENIED, KILLED),
    "rmdir": (BROKEN, DENIED, KILLED),
    "mkdir": (FULL, BROKEN, DENIED, KILLED),
    "symlink": (FULL, BROKEN, DENIED, KILLED),
    "chmod": (BROKEN, DENIED, KILLED),
    "flock": (FULL, BROKEN, KILLED),
}
# Audit events: the call that they tell of, and the numbers of their arguments that are a path and its open folder.
EVENTS = {
    "os.rename": ("rename", 1, 3),
    "os.remove": ("unlink", 0, 1),
    "os.rmdir": ("rmdir", 0, 1),
    "os.mkdir": ("mkdir", 0, 2),
    "os.symlink": ("symlink", 1, 2),
    "os.chmod": ("chmod", 0, 2),
    "os.truncate": ("truncate", 0, None),
    "fcntl.flock": ("flock", 0, None),
}
NATIVE_BYTES = 100  # so much of a file is written before the kernel refuses more
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Fault:
    """The call of this number, from 1, fails in a process of this rank.

    ``kind``: a reason that ``KINDS`` has for such a call. A disk that is full stays full: later calls that take space
    fail too. All other faults hit one call.
    """

    number: int
    kind: str
    rank: str = "0"

    def __str__(self) -> str:
        return f"{self.number}:{self.kind}{'' if self.rank == '0' else f':{self.rank}'}"


class Shim:
    """Follows the calls of this process and of processes that are forked from it, once it is installed.

    Args:
        folder: only files below it count.
        trace: a file outside of it. Each call becomes a line in ``<trace>.<rank>``, before it is made.
        fault: None: only follow.
    """

    def __init__(self, folder: Path, trace: Path, fault: Fault | None = None) -> None:
        self.folder, self.trace, self.fault = os.path.realpath(folder), trace, fault
        self.process, self.rank, self.count, self.stream, self.is_full = 0, "", 0, -1, False

    def install(self) -> None:
        sys.addaudithook(self._hear)
        real_open, real_fsync, real_sendfile = io.open, os.fsync, os.sendfile

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+") or not self.below(file):
                return real_open(file, mode, *arguments, **options)
            return stream(self, file, mode, *arguments, **options)

        def fsync(number: int) -> None:
            self.call("fsync", number)
            real_fsync(number)

        def sendfile(target: int, source: int, offset: int, count: int, **options: Any) -> int:
            self.call("write", target, lambda: real_sendfile(target, source, offset, NATIVE_BYTES, **options))
            return real_sendfile(target, source, offset, count, **options)

        builtins.open = io.open = opened
        if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 has its own names of these functions
            pathlib._NormalAccessor.open = staticmethod(opened)
        os.fsync, os.sendfile = fsync, sendfile  # type: ignore[assignment]
        self._follow_libraries()

    def _follow_libraries(self) -> None:
        for module in (safetensors.torch, safetensors.numpy):
            module.serialize_file = self._native(module.serialize_file, 1)  # type: ignore[attr-defined]
        tokenizers.Tokenizer.save = self._native(tokenizers.Tokenizer.save, 1)  # type: ignore[method-assign]
        real_file = pa.OSFile

        @contextmanager
        def os_file(path: str, mode: str = "rb", *arguments: Any) -> Iterator[Any]:
            with self.native(path) if "w" in mode else _nothing(), real_file(path, mode, *arguments) as file:
                yield file

        pa.OSFile = os_file

    def _native(self, write: Callable[..., Any], position: int) -> Callable[..., Any]:
        """``write``, a function of a library whose argument at this position is a path."""

        def followed(*arguments: Any, **options: Any) -> Any:
            with self.native(arguments[position]):
                return write(*arguments, **options)

        return followed

    @contextmanager
    def native(self, path: Any) -> Iterator[None]:
        """During the block a library may write this file. If it is to fail, the kernel refuses most of it."""
        kind = self.reach("native write", path)
        if kind is None:
            yield
            return
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        limit_files(NATIVE_BYTES, killed=kind == KILLED)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def below(self, path: Any, folder: Any = None) -> str | None:
        """The path relative to the folder. None if it is elsewhere. ``path`` may be the number of an open file."""
        if isinstance(path, int):
            name = os.readlink(f"/proc/self/fd/{path}")
        else:
            name = os.fsdecode(path)
            if isinstance(folder, int) and folder >= 0:
                name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        name = os.path.abspath(name)
        return name[len(self.folder) + 1 :] if name.startswith(f"{self.folder}/") else None

    def reach(self, call: str, path: Any, folder: Any = None) -> str | None:
        """Counts a call. Returns why it has to fail, or None."""
        name = self.below(path, folder)
        if name is None:
            return None
        if self.process != os.getpid():  # it was forked
            self.process, self.rank, self.count = os.getpid(), os.environ.get("RANK", "0"), 0
            file = f"{self.trace}.{self.rank}"
            self.stream = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.count += 1
        os.write(self.stream, f"{call}\t{name}\n".encode())
        hit = self.fault is not None and (self.count, self.rank) == (self.fault.number, self.fault.rank)
        self.is_full |= hit and self.fault is not None and self.fault.kind == FULL
        if hit and self.fault is not None:
            return self.fault.kind
        takes_space = call in ("write", "native write", "mkdir", "symlink")
        takes_space |= call == "open" and not os.path.lexists(os.path.join(self.folder, name))
        return FULL if self.is_full and takes_space else None

    def call(self, name: str, path: Any, begin: Callable[[], Any] | None = None, folder: Any = None) -> None:
        """Counts a call, and raises or ends the process if it has to fail. ``begin``: does a part of it before."""
        kind = self.reach(name, path, folder)
        if kind is None:
            return
        if begin is not None:
            begin()
        if kind == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOLCK if (name, kind) == ("flock", FULL) else getattr(errno, kind)
        named = () if isinstance(path, int) or begin is not None else (os.fsdecode(path),)
        raise OSError(number, os.strerror(number), *named)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITING:
                self.call("open", path)
        elif event in EVENTS:
            name, position, at = EVENTS[event]
            path, folder = arguments[position], None if at is None else arguments[at]
            if name in ("unlink", "rmdir", "mkdir"):  # the kernel looks first whether there is something
                target = self.below(path, folder)
                there = target is not None and os.path.lexists(os.path.join(self.folder, target))
                if there == (name == "mkdir"):
                    return
            self.call(name, path, folder=folder)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class Raw(io.FileIO):
    """A file whose writes are seen. One that fails writes half of its bytes and refuses others, as a full disk."""

    def __init__(self, shim: Shim, *arguments: Any, **options: Any) -> None:
        self._shim = shim
        self._refused: OSError | None = None
        super().__init__(*arguments, **options)

    def write(self, data: Any, /) -> int:
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused
        content = memoryview(data).cast("B")
        half = content[: len(content) // 2]
        try:
            self._shim.call("write", self.fileno(), lambda: super(Raw, self).write(half))
        except OSError as error:
            if not len(half):
                raise
            self._refused = error
            return len(half)
        return super().write(data)

    def truncate(self, size: int | None = None, /) -> int:
        self._shim.call("truncate", self.fileno())
        return super().truncate(size)


def stream(
    shim: Shim,
    file: Any,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """Opens a file for writing as ``open`` does."""
    raw = Raw(shim, file, mode.replace("b", "").replace("t", ""), closefd=closefd, opener=opener)
    if buffering == 0:
        return raw
    buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, max(buffering, io.DEFAULT_BUFFER_SIZE))
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]
    return text
