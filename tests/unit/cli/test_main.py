from __future__ import annotations

import errno
import os

import pytest

from mt_dnn.cli import main as command


def raising(error: Exception) -> object:
    def app(arguments: list[str]) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/.b.json.0123456789abcdef.tmp"),
            2,
            "mt-dnn: /a/b.json: cannot be read or written (Permission denied); change its permissions",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", b"/a/b"),
            1,
            "mt-dnn: /a/b: cannot be read or written (No space left on device); make room",
        ),
        (
            OSError(errno.EIO, os.strerror(errno.EIO)),
            1,
            "mt-dnn: a file: cannot be read or written (Input/output error); check the disk",
        ),
        (Exception("No space left on device (os error 28)"), 1, "mt-dnn: a file: cannot be read or written (No space"),
    ],
)
def test_a_file_that_fails_anywhere_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, line: str
) -> None:
    monkeypatch.setattr(command, "app", raising(error))
    with pytest.raises(SystemExit) as ended:
        command.main(["runs"])
    printed = capsys.readouterr().err
    assert ended.value.code == code and printed.startswith(line) and printed.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")])
def test_what_is_no_file_stays_what_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(command, "app", raising(error))
    with pytest.raises(type(error)) as raised:
        command.main(["runs"])
    assert raised.value is error
