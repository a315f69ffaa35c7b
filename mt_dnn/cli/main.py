"""The ``mt-dnn`` command.

``mt-dnn --help`` has to be fast, so the files of the subcommands import torch and transformers inside their functions.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any, NoReturn

import typer

from data_utils.errors import (
    REMEDIES,
    WRITING,
    RankError,
    UserError,
    public_name,
    refused,
    shortened,
    system_error,
    tell,
)
from data_utils.secret_texts import without_secrets
from mt_dnn.cli.streams import discard, failure_of, fill_closed
from mt_dnn.threads import set_threads

UsageError: type[Any] = typer.BadParameter.__bases__[0]  # of an option or argument; click's, or typer's copy of it
TRACEBACK = "MT_DNN_TRACEBACK"  # set if a message follows the traceback of its error, also in processes started below

# Each name is a file of this folder. It has a function or a Typer group with the same name. Help keeps this order, with
# groups last, and writes init_task as init-task.
COMMANDS = (
    "init_task",
    "prepare",
    "train",
    "evaluate",
    "predict",
    "embed",
    "export",
    "serve",
    "distill",
    "sweep",
    "search",
    "report",
    "compare",
    "runs",
    "analyze",
    "config",
    "data",
    "bench",
)


class App(typer.Typer):
    """A Typer that builds the parser of its commands, which takes a tenth of a second, at its first call only."""

    @cached_property
    def parser(self) -> Any:
        return typer.main.get_command(self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.parser(*arguments, **options)


app = App(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Multi-task fine-tuning of BERT, XLM-R and similar encoders with adversarial training.",
)


def print_version(wanted: bool) -> None:
    """Prints the version and exits."""
    if wanted:
        print(f"mt-dnn {version('mt-dnn')}")
        raise typer.Exit


@app.callback()
def before_every_command(
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a process on a CPU; default: one per core that it may use.")
    ] = None,
    with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Before the message of an error, print where it was raised.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    set_threads(threads)
    if with_traceback:
        os.environ[TRACEBACK] = "1"


for name in COMMANDS:
    command = getattr(import_module(f"mt_dnn.cli.{name}"), name)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command()(command)


def main(arguments: list[str] | None = None) -> Any:
    """Runs a subcommand. A UserError, or a file that fails, becomes one line on stderr and an exit code."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    fill_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            with suppress(OSError):  # it was opened as a file, and is a pipe now
                stream.reconfigure(errors="backslashreplace")  # a terminal may not know the characters of all texts
    given = sys.argv[1:] if arguments is None else arguments
    sys.argv[1:] = map(without_secrets, sys.argv[1:])  # trackers keep them
    try:
        check_utf8(given)
        return _run(given)
    except Exception as error:
        problem = error if isinstance(error, UserError) else of_file(error)
        if problem is None:
            raise
        try:
            if os.environ.get(TRACEBACK):
                print_traceback(error)
            if (os.environ.get("RANK") or "0") == "0" or isinstance(problem, RankError):
                tell(problem)
        except OSError:  # nobody can read the message, but the exit code says it too
            discard(sys.stderr)
        failure_of(sys.stdout)
        sys.exit(problem.exit_code)


def check_utf8(given: list[str]) -> None:
    """Raises UserError for an argument that is not UTF-8. No file that a command writes could hold it."""
    for word in given:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{public_name(word)}: is not UTF-8; rename the file or folder") from None


def _run(given: list[str]) -> NoReturn:
    """Runs a subcommand, and writes all that it has printed before it ends.

    Raises:
        UserError: an option or argument is wrong, or standard output cannot be written.
        SystemExit: how the command has ended. It is 1, without a message, if nobody reads standard output any more.
    """
    try:
        code = app(given, prog_name="mt-dnn", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UsageError as error:
        raise of_usage(error, given) from None
    except SystemExit as end:
        failure = failure_of(sys.stdout)
        if failure is None or end.code not in (0, None):
            raise
        if failure.errno == errno.EPIPE:
            sys.exit(1)
        raise refused("standard output", "cannot be written", failure) from None


def of_usage(error: Any, given: list[str]) -> BaseException:
    """Makes the message for a wrong option or argument, of typer's text. ``given``: the arguments.

    The text is empty if only a group was named, such as ``mt-dnn bench``: typer has printed its help then. An option
    without its value has no context: the parser does not know the command.
    """
    text = error.format_message().replace(": Value error, ", ": ")
    named = [word for word in given if word.replace("-", "_") in COMMANDS]
    path = " ".join(["mt-dnn", *named[:1]]) if error.ctx is None else error.ctx.command_path
    if not text:
        return SystemExit(error.exit_code)
    command = path.removeprefix("mt-dnn").strip()
    end = "" if text.endswith((".", "?")) else "."
    return UserError(f"{command}{': ' if command else ''}{shortened(text)}{end} See {path} --help")


def of_file(error: Exception) -> UserError | None:
    """Makes the message for a file that fails where nothing else has said which command needs it for what."""
    failure = system_error(error)
    if failure is None or (failure.filename is None and failure.errno not in WRITING):
        return None
    if failure.filename is None and failure_of(sys.stdout) is not None:
        return refused("standard output", "cannot be written", failure)
    file = "a file or standard output" if failure.filename is None else public_name(os.fsdecode(failure.filename))
    hint = "" if failure.errno in REMEDIES else "mt-dnn --traceback … shows what has failed"
    return refused(file, "cannot be read or written", failure, kept=hint)


def print_traceback(error: BaseException) -> None:
    """Prints where an error was raised, and those that it has replaced, without secrets."""
    found: BaseException | None = error
    while found is not None:
        found.__suppress_context__ = False
        found = found.__context__
    print(without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
