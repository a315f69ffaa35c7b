"""UserError, the exception for bad input, and functions that make its messages."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_utils.secret_texts import without_secrets

# The reasons that an input cannot mend: the disk, a quota or a limit of size is full, or the disk is broken.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}  # why a folder may not be written

WRITING = {*NO_ROOM, errno.EPIPE}  # what only writing raises

# Characters without a width: those that turn the direction of writing, and the mark at the begin of a file.
INVISIBLE = {chr(code) for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)}
LONGEST = 2000  # characters of a message
SHOWN = 200  # characters of a value in a message
LISTED = 30  # names in a list of names

AGAIN = "then start the same command again"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), f"make room, {AGAIN}"),
    errno.EIO: f"check the disk, {AGAIN}",
    **dict.fromkeys((errno.EACCES, errno.EPERM), f"change its permissions, {AGAIN}, or name another"),
    errno.EROFS: "name one on a disk that may be written",
    errno.ELOOP: "remove the links that point at each other, or name another",
}

# Names of files and folders that are not complete, or about to be removed: see files.py, and checkpoints of a run.
TEMPORARY = re.compile(r"\.(?P<name>.+?)(\.[0-9a-f]{16})?\.(tmp|old)")


class UserError(Exception):
    """Bad input. The message is one line. It names the file, row or key, and says what to do.

    The command line prints the message and exits with ``exit_code``. The message holds names, labels and texts of the
    user as they are. Where it is read, it is ``printable``, ``without_secrets``, and not longer than ``LONGEST``.
    """

    exit_code = 2

    def __str__(self) -> str:
        return shortened(printable(without_secrets(super().__str__())), LONGEST)


class NotSaved(UserError):
    """Results cannot be written, for example to a full disk. The input is not bad, so the exit code is 1."""

    exit_code = 1


class MissingRows(UserError):
    """A file of rows does not exist. (A file that exists but is wrong raises a plain UserError.)"""


class EmptyRow(UserError):
    """A row has no text where its task needs one. Training stops there, and prediction gives an empty answer."""


class RankError(UserError):
    """A problem of one process among several. This process prints the message, even if it is not the main one."""

    exit_code = 1


class RankInputError(RankError):
    """Bad input that a single process may have, such as its environment. To start the processes again is of no use."""

    exit_code = 2


def printable(text: str) -> str:
    """Writes what would change a terminal as escapes: control characters, line breaks, single surrogates."""
    if text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    """Whether a character is none of a text: a control, a line break, a surrogate, or invisible."""
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in INVISIBLE


def shortened(text: str, most: int = SHOWN) -> str:
    """Returns the text, or its beginning and its end if it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    gap = f" … ({len(text):,} characters) … "
    end = (most - len(gap)) // 3
    return text[: most - len(gap) - end] + gap + text[len(text) - end :]


def shown(value: object) -> str:
    """Writes a value for a message, as Python writes it, but short."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # such as an integer with more digits than Python writes
        return f"a value of type {type(value).__name__} that is too large to show"


def listed(names: Iterable[object]) -> str:
    """Writes names with commas between them. Of many names there are the first ones, and how many there are."""
    texts = list(map(str, names))
    more = f", … ({len(texts):,} in all)" if len(texts) > LISTED else ""
    return ", ".join(map(shortened, texts[:LISTED])) + more


def tell(line: object) -> None:
    """Prints a line for the user to standard error, such as a notice or the message of an error."""
    print(f"mt-dnn: {shortened(printable(without_secrets(f'{line}')), LONGEST)}", file=sys.stderr, flush=True)


@contextmanager
def os_errors(location: object, problem: str, *, written: Path | None = None) -> Iterator[None]:
    """Turns an OSError of the block into a UserError, such as ``rows.tsv: cannot be read (Is a directory)``.

    Args:
        location: what the message begins with.
        problem: the words after the location, such as "cannot be read" or "cannot be written".
        written: the file or folder that a block of the caller writes. Only its errors are turned, and not those of
            other files or of a network: an error that names a path at or below it, or one of writing without a name.

    Raises:
        NotSaved: the disk is full or broken.
        UserError: for every other reason.
    """
    try:
        yield
    except Exception as error:
        failure = system_error(error)
        if failure is None or (written is not None and not _of_writing(failure, written)):
            raise
        raise refused(location, problem, failure) from None


def system_error(error: BaseException) -> OSError | None:
    """The OSError behind an error, if there is one.

    Libraries that are not written in Python (safetensors, tokenizers) raise exceptions of their own, with the number of
    the reason in their text. ``Path.resolve`` of Python 3.12 and older raises one for links in a circle.
    """
    if isinstance(error, OSError):
        return error
    if isinstance(error, RuntimeError) and (loop := re.fullmatch("Symlink loop from '(.*)'", str(error))):
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), loop[1])
    found = None if isinstance(error, UserError) else re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def refused(
    location: object, problem: str, error: OSError, *, kept: str = "", kind: type[UserError] | None = None
) -> UserError:
    """Makes the error for a call that the operating system has refused: why, and what to do.

    Args:
        location, problem: see ``os_errors``.
        kept: what the user still has, for example "the last checkpoint is whole".
        kind: the class of the error. None: as ``os_errors``.
    """
    kind = kind or (NotSaved if error.errno in NO_ROOM else UserError)
    further = [text for text in (kept, REMEDIES.get(error.errno or 0, "")) if text]
    return kind("; ".join([f"{location}: {problem} ({reason(error)})", *further]))


def reason(error: OSError) -> str:
    """Why a call was refused, as the operating system says it."""
    text = error.strerror or str(error).split("\n")[0]
    return os.strerror(error.errno) if error.errno and "errno" in text else text  # pyarrow says more


def public_name(path: str | Path) -> Path:
    """The path under which the user will find a file or folder that has a temporary name."""
    found = (TEMPORARY.fullmatch(part) for part in Path(path).parts)
    return Path(*(match["name"] if match else part for match, part in zip(found, Path(path).parts, strict=True)))


def _of_writing(error: OSError, written: Path) -> bool:
    """Whether an error is one of writing a file or something in a folder."""
    if error.errno in WRITING:
        return True
    return isinstance(error.filename, str) and Path(error.filename).is_relative_to(written)


def not_yaml(path: object, error: Exception) -> UserError:
    """Makes the error for a file that PyYAML cannot read. It names the line where PyYAML stopped, if known."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    reason = getattr(error, "problem", None) or str(error).split("\n")[0] or type(error).__name__
    return UserError(f"{path}{line}: not readable as YAML: {shortened(reason)}")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Returns ``", did you mean 'dropout'?"`` if an option is spelled almost like the word, else an empty text."""
    close = difflib.get_close_matches(str(word)[:SHOWN], list(options), n=1)
    return f", did you mean '{shortened(close[0])}'?" if close else ""


def unknown_key(location: str, key: str, options: Iterable[str]) -> UserError:
    """Makes the error for a key that does not exist. It names the closest known key, or lists all known keys."""
    known = sorted(options)
    hint = did_you_mean(key, known) or f" (known: {', '.join(known)})"
    return UserError(f"{location}: unknown key '{shortened(str(key))}'{hint}")
