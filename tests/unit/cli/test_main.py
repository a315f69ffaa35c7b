"""How a command ends and what it prints, whatever the terminal, the file system and the user's texts are."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from data_utils.errors import LONGEST, tell
from mt_dnn.cli.main import main


def ended(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "a" * 300],
        ["evaluate", "a" * 300],
        ["train", "a" * 300],
        ["prepare", "a" * 300, "--data", "b", "--encoder", "c"],
        ["config", "--", "a" * 300],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_name_that_no_file_can_have_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mt-dnn: aaa") and len(line) < 700


@pytest.mark.parametrize("name", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_characters_gets_escapes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding=name)
    monkeypatch.setattr(sys, "stdout", stream)
    (tmp_path / "ü猫").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ended(["runs", "ü猫"]) == 0
    stream.flush()
    assert printed.getvalue() == "ü猫: no runs\n".encode(name, "backslashreplace")


def test_notices_are_one_short_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"a\x1b[31m\n{'x' * 9000}")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mt-dnn: a\\x1b[31m\\nxxx") and len(line) == LONGEST + len("mt-dnn: ")
