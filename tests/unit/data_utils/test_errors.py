"""Messages are one line that a terminal can show, of at most 2,000 characters, whatever the user has written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from data_utils.errors import (
    LONGEST,
    SHOWN,
    NotSaved,
    UserError,
    did_you_mean,
    listed,
    os_errors,
    printable,
    public_name,
    reason,
    refused,
    shortened,
    shown,
    system_error,
    unknown_key,
)
from data_utils.files import replacing


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a.tsv:2: label 'ö 猫 …'", "a.tsv:2: label 'ö 猫 …'"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b2J\x7f\0", r"\x9b2J\x7f\x00"),
        ("\u202eabc\u2028\ufeff", r"\u202eabc\u2028\ufeff"),
        ("\ud83d", r"\ud83d"),
        ("東京\u3000a\u00a0b می\u200cخواهم 👩\u200d💻", "東京\u3000a\u00a0b می\u200cخواهم 👩\u200d💻"),
    ],
)
def test_what_a_terminal_does_not_show_is_written_as_an_escape(text: str, printed: str) -> None:
    assert printable(text) == printed == str(UserError(text))


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = f"a.tsv:2: label '{'x' * 300_000}' is wrong; write another"
    message = str(UserError(text))
    assert len(message) == LONGEST
    assert message.startswith("a.tsv:2: label 'xxx") and message.endswith("xxx' is wrong; write another")
    assert f" … ({len(text):,} characters) … " in message
    assert len(str(UserError("\x1b" * LONGEST))) == LONGEST
    assert str(UserError("x" * LONGEST)) == "x" * LONGEST


def test_values_and_lists_in_messages_are_short() -> None:
    assert shown("a\n") == r"'a\n'" and shown([1.5, None]) == "[1.5, None]"
    assert len(shown("x" * 9000)) == len(shortened("y" * 9000)) == SHOWN
    assert shown(16**5000) == "a value of type int that is too large to show"
    assert listed(["a", "b"]) == "a, b"
    names = [f"l{number}" for number in range(20_000)]
    assert listed(names).endswith(", l29, … (20,000 in all)") and listed(names).startswith("l0, l1, ")
    assert len(listed(["x" * 9000])) == SHOWN


def test_a_long_name_is_compared_and_shown_in_part() -> None:
    assert did_you_mean("x" * 100_000, ["dropout"]) == ""
    assert len(str(unknown_key("a.yml", "x" * 100_000, ["dropout"]))) < 2 * SHOWN


AGAIN = "then start the same command again"


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, NotSaved, f"(No space left on device); make room, {AGAIN}"),
        (errno.EDQUOT, NotSaved, f"(Disk quota exceeded); make room, {AGAIN}"),
        (errno.EIO, NotSaved, f"(Input/output error); check the disk, {AGAIN}"),
        (errno.EACCES, UserError, f"(Permission denied); change its permissions, {AGAIN}, or name another"),
        (errno.EROFS, UserError, "(Read-only file system); name one on a disk that may be written"),
        (errno.EISDIR, UserError, "(Is a directory)"),
    ],
)
def test_a_refused_call_says_why_and_what_to_do(number: int, kind: type[UserError], said: str) -> None:
    with pytest.raises(kind) as raised, os_errors("rows.tsv", "cannot be written"):
        raise OSError(number, os.strerror(number), "an internal name")
    assert type(raised.value) is kind and str(raised.value) == f"rows.tsv: cannot be written {said}"


def test_what_is_kept_is_said_before_the_remedy() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = refused("run", "not written", full, kept="earlier checkpoints are untouched", kind=NotSaved)
    assert str(error) == (
        f"run: not written (No space left on device); earlier checkpoints are untouched; make room, {AGAIN}"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_libraries_without_python_run_into_a_full_disk_too() -> None:
    """tokenizers raises a plain Exception."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    expected = pytest.raises(NotSaved, match=r"^model: cannot be written \(No space left on device\); make room")
    with expected, os_errors("model", "cannot be written", written=Path("/dev/full")):
        tokenizer.save("/dev/full")


def test_a_missing_folder_of_a_library_without_python(tmp_path: Path) -> None:
    expected = pytest.raises(UserError, match=r"^model: cannot be written \(No such file or directory\)$")
    with expected, os_errors("model", "cannot be written"):
        save_file({}, tmp_path / "none" / "model.safetensors")


def test_links_in_a_circle(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    message = r"loop: cannot be written \(Too many .*; remove the links that point at each"
    with pytest.raises(UserError, match=message), replacing(loop):
        pass
    failure = system_error(RuntimeError(f"Symlink loop from '{loop}'"))  # what resolve raises before Python 3.13
    assert failure is not None and (failure.errno, failure.filename) == (errno.ELOOP, str(loop))


def test_other_errors_are_none_of_the_system() -> None:
    assert system_error(ValueError("No space left on device")) is None
    assert system_error(UserError("tokenizer: cannot be loaded (No such file (os error 2))")) is None
    with pytest.raises(ValueError, match="a bug"), os_errors("rows.tsv", "cannot be read"):
        raise ValueError("a bug")


def test_the_reason_is_that_of_the_system() -> None:
    arrow = "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
    assert reason(OSError(28, arrow)) == "No space left on device"
    assert reason(OSError("no number\nand more")) == "no number"


def test_names_of_temporary_files_are_shown_as_the_user_knows_them() -> None:
    assert public_name("run/.config.yml.0123456789abcdef.tmp") == Path("run/config.yml")
    assert public_name(Path("/a/.step-00000004.tmp/encoder/config.json")) == Path(
        "/a/step-00000004/encoder/config.json"
    )
    assert public_name("/a/.hidden/b.tmp") == Path("/a/.hidden/b.tmp")
