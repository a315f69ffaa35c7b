"""How a command ends and what it prints, whatever the terminal, the file system and the user's texts are."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from data_utils.errors import LONGEST, UserError, tell
from mt_dnn.cli import main as command
from mt_dnn.cli.main import main
from tests.study_files import write_study


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


@pytest.mark.parametrize(
    ("arguments", "problem", "path"),
    [
        (["trian"], "No such command 'trian'", "mt-dnn"),
        (["prepare"], "prepare: Missing argument 'task_defs'", "mt-dnn prepare"),
        (["train", "a.yml", "--gpu", "1"], "train: No such option: --gpu", "mt-dnn train"),
        (["bench", "start", "--rounds", "a"], "bench start: Invalid value for '--rounds'", "mt-dnn bench start"),
        (["init-task", "--encoder"], "init-task: Option '--encoder' requires an argument", "mt-dnn init-task"),
        (["--threads"], "Option '--threads' requires an argument", "mt-dnn"),
        (["analyze", "tally", "a", "--task"], "analyze: Option '--task' requires an argument", "mt-dnn analyze"),
        (
            ["analyze", "loss-surface", "a", "--extent", "inf"],
            "analyze loss-surface: Invalid value for '--extent'",
            "mt-dnn analyze loss-surface",
        ),
        (
            ["prepare", "a", "--max-length", "1" + 30 * "0"],
            "prepare: Invalid value for '--max-length'",
            "mt-dnn prepare",
        ),
        (["train", "a.yml", "--gpus", "1000000"], "train: Invalid value for '--gpus'", "mt-dnn train"),
        (["sweep", "a", "--cluster", "b"], "sweep: Invalid value for '--cluster': 'b' is not one of", "mt-dnn sweep"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_or_argument_is_one_line(
    arguments: list[str], problem: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other words are typer's, and differ a little between its versions."""
    assert ended(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mt-dnn: {problem}") and line.endswith(f" See {path} --help")


@pytest.mark.parametrize("arguments", [[], ["bench"]], ids=["mt-dnn", "bench"])
def test_a_group_without_a_command_prints_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(arguments) in (0, 2)  # 0 in older versions of click
    printed = capsys.readouterr()
    assert "predict" in printed.out and not printed.err


@pytest.mark.parametrize("command", ["export", "prepare", "train"])
def test_an_argument_that_is_not_utf_8_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended([command, os.fsdecode(b"a/\xfe")]) == 2
    assert capsys.readouterr().err == "mt-dnn: a/\\udcfe: is not UTF-8; rename the file or folder\n"


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


def raising(error: Exception) -> object:
    def app(arguments: list[str], **_options: object) -> None:
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
            "mt-dnn: a file or standard output: cannot be read or written (Input/output error); check the disk",
        ),
        (
            Exception("No space left on device (os error 28)"),
            1,
            "mt-dnn: a file or standard output: cannot be read or written (No space",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/b"),
            2,
            "mt-dnn: /a/b: cannot be read or written (No such file or directory); mt-dnn --traceback … shows what",
        ),
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


def failing(folder: Path) -> None:
    try:
        raise ValueError("of a library, s3cret-s3cret")
    except ValueError:
        raise UserError(f"{folder}: is wrong") from None


@pytest.mark.parametrize("option", [True, False])
def test_an_option_prints_where_an_error_was_raised_and_what_it_replaced(
    option: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "s3cret-s3cret")
    monkeypatch.setitem(os.environ, command.TRACEBACK, "")  # put back what the command sets
    monkeypatch.setattr("mt_dnn.studies.run_list.run_states", failing)
    assert ended([*(["--traceback"] if option else []), "runs", "folder"]) == 2
    *above, line = capsys.readouterr().err.splitlines()
    assert line == "mt-dnn: folder: is wrong"
    assert above[-1:] == ["data_utils.errors.UserError: folder: is wrong"] * option
    assert ("ValueError: of a library, ***" in above) is ("in failing" in "\n".join(above)) is option


@pytest.mark.parametrize("error", [ValueError("a bug"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")])
def test_what_is_no_file_stays_what_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(command, "app", raising(error))
    with pytest.raises(type(error)) as raised:
        command.main(["runs"])
    assert raised.value is error


@pytest.mark.parametrize(("rank", "said"), [("x", "RANK='x' in the environment"), ("1", "WORLD_SIZE is 1")])
def test_a_wrong_environment_is_said_whatever_the_rank(
    rank: str, said: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert ended(["train", str(workspace / "run.yml"), f"output={workspace / 'run'}"]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_rank_is_that_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "")
    assert ended(["train", str(tmp_path / "no.yml")]) == 2
    assert "no.yml" in capsys.readouterr().err


def test_prepare_says_when_its_folder_may_not_be_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("data_utils.kept._write", lambda *_: "Permission denied")
    command = ["prepare", str(workspace / "tasks.yml"), "--data", str(workspace / "data")]
    assert ended([*command, "--encoder", str(workspace / "encoder"), "--max-length", "32"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("name another folder with --cache")


class Full(io.StringIO):
    """A file on a disk that is full. ``late``: only its flush fails."""

    late = False

    def write(self, text: str) -> int:
        return len(text) if self.late else self.flush()

    def flush(self) -> int:  # type: ignore[override]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class LateFull(Full):
    late = True


@pytest.mark.parametrize("stream", [Full, LateFull])
@pytest.mark.parametrize("arguments", [["--version"], ["config", "--schema"]])
def test_a_full_disk_behind_standard_output_is_named(
    stream: type[Full], arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", stream())
    assert ended(arguments) == 1
    assert capsys.readouterr().err.startswith("mt-dnn: standard output: cannot be written (No space left on device)")


def test_an_error_keeps_its_exit_code_where_its_message_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    assert ended(["train", str(tmp_path / "no.yml")]) == 2


def test_a_command_prints_nothing_into_closed_streams(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(workspace)
    (workspace / "runs").mkdir()
    monkeypatch.setattr(sys, "stderr", None)
    assert ended(["train", str(workspace / "no.yml")]) == 2
    assert not capsys.readouterr().out  # the message does not go to the other stream
    monkeypatch.setattr(sys, "stdout", None)
    assert ended(["report", str(workspace / "study.yml"), "--runs", str(workspace / "runs")]) == 0


@pytest.mark.parametrize("arguments", [["predict", "run", "--input", "-"], ["evaluate", "run"]])
def test_results_are_not_computed_for_a_closed_output(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert ended(arguments) == 2
    assert capsys.readouterr().err.startswith("mt-dnn: standard output: is closed")
