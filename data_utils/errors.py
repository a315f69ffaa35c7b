"""The one exception that stands for bad input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input: one line that names file, row or key and the remedy. The command line prints it and exits with 2."""


class MissingRows(UserError):
    """A file of rows is not there, as opposed to being wrong."""


class RankError(UserError):
    """A problem that one of several processes has, and tells by itself."""


@contextmanager
def os_errors(location: object, problem: str) -> Iterator[None]:
    """What the system refuses inside, such as a folder where a file is due, is bad input: "cannot be read"."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{location}: {problem} ({error.strerror or error})") from None


def not_yaml(path: object, error: Exception) -> UserError:
    """The error for a file that PyYAML refuses, with the line where it says so."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark is not None else ""
    reason = getattr(error, "problem", None) or str(error).split("\n")[0]
    return UserError(f"{path}{line}: not readable as YAML: {reason}")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """``", did you mean 'dropout'?"`` when one of the options is close to the word, else an empty string."""
    close = difflib.get_close_matches(str(word), list(options), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def unknown_key(location: str, key: str, options: Iterable[str]) -> UserError:
    """The error for a key that does not exist; lists the known keys when none is close."""
    known = sorted(options)
    hint = did_you_mean(key, known) or f" (known: {', '.join(known)})"
    return UserError(f"{location}: unknown key '{key}'{hint}")
