"""Reading lines and JSON objects from files, and writing files that are complete or absent."""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
import shutil
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from data_utils.errors import UserError, os_errors, shortened

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # a disk or a system without file locks
LONGEST_ROW = 10_000_000  # bytes of a line, and characters of a cell
LONGEST_TEXT = 10_000_000  # bytes of a file of settings
LARGEST = 1_000_000_000  # bytes of a file of results or of a whole data set
TOO_LONG = f"the row has more than {LONGEST_ROW:,} bytes; shorten its texts, or divide it into several rows"
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # how a file in UTF-16 begins


def open_file(path: Path, *, pipe: bool = False) -> BinaryIO:
    """Opens a file to read its bytes. A pipe or a device is refused, because reading it may never end.

    ``pipe``: whether it may be a pipe without a name, as a shell makes for ``<(command)`` and ``/dev/stdin``.

    Raises:
        UserError: it is a named pipe, a device or the like.
        OSError: it does not exist, is a folder, or cannot be opened.
    """
    mode = path.stat().st_mode
    nameless = stat.S_ISFIFO(mode) and os.path.realpath(path).startswith(("/proc/", "/dev/fd/"))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (pipe and nameless)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise UserError(f"{path}: is {kind}, not a file; write what it gives into a file")
    return path.open("rb")


def read_text(path: Path, *, most: int = LONGEST_TEXT) -> str:
    """Reads a whole file in UTF-8.

    Raises:
        UserError: it is not a file, not UTF-8, or has more than ``most`` bytes.
        OSError: it does not exist, or cannot be read.
    """
    with open_file(path) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise UserError(f"{path}: has more than {most:,} bytes, too many for a file of this kind")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({_not_utf8(content, error)})") from None


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    return "it is UTF-16; save it as UTF-8" if raw[:2] in UTF16 else error.reason


def read_lines(path: Path, *, blank: bool = False, pipe: bool = False) -> Iterator[tuple[int, str]]:
    """Yields (line number, line) for each line that is not blank. Lines end at newline bytes only.

    A file whose name ends in ``.gz`` is decompressed. Line numbers count blank lines and start at 1. A line of white
    space is blank. ``blank``: yield blank lines too. ``pipe``: see ``open_file``.

    Raises:
        UserError: the file cannot be read, is damaged, is not UTF-8, or has a line that is too long.
    """
    with os_errors(path, "cannot be read"):
        try:
            with open_file(path, pipe=pipe) as file:
                stream = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
                yield from decoded_lines(stream, path, blank=blank)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is damaged or cut off ({error})") from None


def decoded_lines(
    stream: BinaryIO | gzip.GzipFile, location: object, *, blank: bool = False
) -> Iterator[tuple[int, str]]:
    """Yields (line number, line) for each line of a stream of bytes, see ``read_lines``. ``location``: its name."""
    for number in count(1):
        raw = stream.readline(LONGEST_ROW + 1)  # not all of a line without end
        if not raw:
            return
        if len(raw) > LONGEST_ROW:
            raise UserError(f"{location}:{number}: {TOO_LONG}")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{location}:{number}: not UTF-8 ({_not_utf8(raw, error)})") from None
        if blank or line.strip():
            yield number, line


class Spelled(float):
    """A number from JSON that remembers how it is written there, such as ``1.50``."""

    written: str

    def __new__(cls, written: str) -> Spelled:
        number = super().__new__(cls, written)
        number.written = written
        return number


def spelled(value: Any) -> str | None:
    """A text as it is, a number or truth value as JSON writes it, and an empty text for None. None for other values."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Spelled):
        return value.written
    return json.dumps(value) if isinstance(value, bool | int | float) else None


class Twice(ValueError):
    """A JSON object has a key twice."""


def single_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object of its keys and values, as ``object_pairs_hook`` of ``json.loads``.

    Raises:
        Twice: a key is there twice. JSON itself would keep the last value and say nothing.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        key = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise Twice(f"'{shortened(key)}' occurs twice; keep one")
    return values


def read_json(text: str, location: str) -> dict[str, Any]:
    """Reads a JSON object, such as a line of JSONL. Messages begin with ``location``.

    Raises:
        UserError: the text is not JSON, not an object, has a key twice, or holds an unpaired surrogate such as
            ``"\\ud83d"``.
    """
    try:
        values = json.loads(text, parse_float=Spelled, object_pairs_hook=single_keys)
        if "\\u" in text:  # the file is UTF-8, so only an escape can give an unpaired surrogate
            json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        lone = error.object[error.start]
        raise UserError(f"{location}: unpaired surrogate {lone!r} is not valid text; remove it") from None
    except Twice as error:
        raise UserError(f"{location}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{location}: not JSON ({shortened(str(error))})") from None
    if not isinstance(values, dict):
        raise UserError(f"{location}: a JSON object is expected, not {type(values).__name__}")
    return values


def as_text(values: dict[str, Any]) -> dict[str, str]:
    """Returns the values of a JSON object as text, see ``spelled``. Lists and objects are left out."""
    texts = {name: spelled(value) for name, value in values.items()}
    return {name: text for name, text in texts.items() if text is not None}


def check_not_rows(output: Path, *rows: str | Path) -> None:
    """Raises UserError for an output that is one of the files of rows, which it would replace."""
    check_not_read(output, *rows, what="has rows")


def check_not_read(
    output: Path, *files: str | Path, option: str = "--output", what: str = "is read by this command"
) -> None:
    """Raises UserError for an output that is one of these files, which it would replace. ``option``: that names it."""
    if any(output.is_file() and Path(file).is_file() and output.samefile(file) for file in files):
        raise UserError(f"{output}: {what}, and would be replaced; choose another name with {option}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a temporary file beside ``path``. At the end of the block this file takes the name ``path``.

    The block writes the temporary file, as text or bytes. The file is flushed to disk before it is renamed, so a reader
    finds either the old file or the complete new one, also after a power failure. When the block fails, the temporary
    file is removed and the old file stays. An OSError of the block that is not one of this file stays what it is:

        with replacing(folder / "summary.json") as temporary:
            temporary.write_text("{}", encoding="utf-8")

    A symbolic link stays a link, and the file that it points at is replaced. What is not a file, such as
    ``/dev/stdout``, is not replaced but written.

    Raises:
        NotSaved: the disk is full.
        UserError: the file cannot be written for another reason.
    """
    problem = "cannot be written"
    with os_errors(path, problem):
        regular = path.is_file() or not path.exists()
        final = path.resolve()
    if not regular:
        with os_errors(path, problem, written=path):
            yield path
        return
    # Random, because processes on other machines or in other containers may have the same number as this one.
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}.tmp")
    try:
        with os_errors(path, problem, written=temporary):
            yield temporary
        with os_errors(path, problem):
            flush(temporary)
            if final.exists():
                shutil.copymode(final, temporary)
            temporary.replace(final)
            flush(final.parent)
    finally:
        with suppress(OSError):  # where there is no folder, there is no file
            temporary.unlink()


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Writes each record as a line of JSON. The file is complete or absent, see ``replacing``."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Waits until the content of a file, or the list of names in a folder, is on disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """The CRC-32 of a file. It tells damage, and is as fast as reading."""
    value = 0
    with open_file(path) as stream:
        while block := stream.read(1 << 20):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
