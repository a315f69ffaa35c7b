"""Files that grow line by line: complete lines whatever happens, and the name of the file only in the end."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from data_utils.errors import UserError
from data_utils.growing import growing
from tests.cuts import CORRECT, NOT_SAVED, cut


def test_lines_are_in_the_partial_file_at_once_and_get_the_name_in_the_end(tmp_path: Path) -> None:
    path, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    path.write_text("old\n")
    path.chmod(0o640)
    partial.write_text("of an earlier call\n")
    with growing(path) as append:
        for number in range(3):
            append(f"ä{number}")
            assert partial.read_text() == "".join(f"ä{line}\n" for line in range(number + 1))
            assert path.read_text() == "old\n"
    assert path.read_text() == "ä0\nä1\nä2\n" and list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_failure_keeps_the_lines_before_it_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    message = rf"f:3: bad; what was written before is in {path}.partial$"
    with pytest.raises(UserError, match=message), growing(path) as append:
        append("a")
        raise UserError("f:3: bad")
    assert (tmp_path / "out.jsonl.partial").read_text() == "a\n" and not path.exists()
    with pytest.raises(UserError, match=r"^f:1: bad$"), growing(path):
        raise UserError("f:1: bad")
    assert (tmp_path / "out.jsonl.partial").read_text() == "a\n"  # nothing was written in its place
    (tmp_path / "out.jsonl.partial").unlink()
    with pytest.raises(UserError, match=r"^f:1: bad$"), growing(path):
        raise UserError("f:1: bad")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="cannot be written"), growing(tmp_path):
        pass
    with growing(Path("/dev/null")) as append:
        append("a")
    assert not Path("/dev/null").is_file() and not Path("/dev/null.partial").exists()


def test_two_writers_of_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with growing(path) as append:
        append("a")
        with (
            pytest.raises(UserError, match=r"out.jsonl.partial: another process is writing it"),
            growing(path) as second,
        ):
            second("b")
        append("c")
    assert path.read_text() == "a\nc\n" and list(tmp_path.iterdir()) == [path]
    (tmp_path / "out.jsonl.partial").write_text("of a killed process\n")
    with growing(path):
        pass
    assert path.read_text() == ""


def test_a_process_that_ends_leaves_complete_lines(tmp_path: Path) -> None:
    """On a full disk, and killed."""
    path, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"

    def write(kill_at: int) -> None:
        with growing(path) as append:
            for number in range(9):
                if number == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                append("ab" * number)

    for limit in (1, 2, 30, 70):
        assert cut(lambda: write(9), limit, killed=False) == NOT_SAVED
        lines = partial.read_text().split("\n")
        assert lines == ["ab" * number for number in range(len(lines) - 1)] + [""] and not path.exists()
        assert len("\n".join(lines)) <= limit < len("\n".join(lines)) + 2 * len(lines) - 1
    assert cut(lambda: write(6), resource.RLIM_INFINITY, killed=False) == -signal.SIGKILL
    assert partial.read_text() == "".join("ab" * number + "\n" for number in range(6)) and not path.exists()
    assert cut(lambda: write(9), resource.RLIM_INFINITY, killed=False) == CORRECT
    assert len(path.read_text().splitlines()) == 9 and not partial.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_a_lock_that_fails(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("data_utils.growing.lock_descriptor", failing)
    path, partial = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    if number == errno.ENOLCK:  # no process can lock it, so this one may go on
        with growing(path) as write:
            write("a")
        assert path.read_text() == "a\n" and "this disk has no file locks" in capsys.readouterr().err
        return
    message = r"out.jsonl: cannot be written \(Input/output error\); check the disk"
    with pytest.raises(UserError, match=message), growing(path):
        pass
    assert list(tmp_path.iterdir()) == []
    partial.write_text("a\n")  # of an earlier start
    with pytest.raises(UserError, match=message), growing(path):
        pass
    assert partial.read_text() == "a\n"
