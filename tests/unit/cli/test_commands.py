"""Commands say and use what the modules that they do not import at once define."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main

from data_utils.benchmarks.hub import BENCHMARKS
from mt_dnn.cli.main import COMMANDS, app, main
from mt_dnn.runs.config import DataConfig
from tests import ROOT
from tests.layouts import lay_out
from tests.tiny import tiny_tokenizer


def parameters(command: str) -> dict[str, Any]:
    commands: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in commands.commands[command].params}


def test_help_of_data_lists_every_benchmark() -> None:
    words = parameters("data")["benchmark"].help.removesuffix(".").replace(" or ", ", ").split(", ")
    assert sorted(words) == sorted([*BENCHMARKS, "quickstart"])


def test_data_makes_the_rows_of_the_quick_start_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["data", "quickstart"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out.split()
    assert [Path(name).name for name in printed if "challenge" in name] == ["nli_challenge_test.tsv"]
    assert len((tmp_path / "data" / "quickstart" / "nli_train.tsv").read_text().splitlines()) == 1301
    with pytest.raises(SystemExit) as exit_:
        main(["data", "quickstart", "--tasks", "nli"])
    assert exit_.value.code == 2 and "leave --tasks and --source out" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "expected"), [("tr", ["train"]), ("analyze lo", ["loss-surface"])])
def test_the_shell_completes_commands(
    words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mt-dnn"])
    for name, value in (("_MT_DNN_COMPLETE", "complete_bash"), ("COMP_WORDS", f"mt-dnn {words}")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0 and capsys.readouterr().out.split() == expected


@pytest.mark.parametrize("option", ["max_length", "stride"])
def test_prepare_has_the_defaults_of_a_run(option: str) -> None:
    assert parameters("prepare")[option].default == DataConfig.model_fields[option].default


def test_prepare_cuts_windows_with_the_stride_asked_for(tmp_path: Path) -> None:
    lay_out(tmp_path, {"tasks.yml": "w: {task_type: sequence_labelling, data_format: words, labels: [O, B-X]}\n"})
    lay_out(tmp_path, {"w_train.tsv": "uid\tlabel\twords\n0\tO B-X\tthe dog\n"})
    tiny_tokenizer(tmp_path / "encoder")
    options = ["--data", str(tmp_path), "--encoder", str(tmp_path / "encoder"), "--max-length", "16", "--stride", "4"]
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", str(tmp_path / "tasks.yml"), *options])
    assert exit_.value.code == 0
    (manifest,) = (tmp_path / "prepared").glob("w_train-*/manifest.json")
    assert json.loads(manifest.read_text())["stride"] == 4


def test_prepare_fails_after_all_files_if_one_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "task_type: classification, data_format: single, labels: [no, yes], splits: [train, dev, test]"
    header, constant = "uid\tlabel\tpremise\n", "".join(f"{number}\ta\tx\n" for number in range(11))
    rows = {"tasks.yml": "".join(f"{name}: {{{task.replace('[no, yes]', '[a, b]')}}}\n" for name in ("one", "two"))}
    rows |= {"one_train.tsv": header + "0\tc\tx\n", "one_dev.tsv": header + "0\ta\tx\n0\tb\tx\n"}
    lay_out(tmp_path, {**rows, "two_train.tsv": header + "0\ta\tx\n", "two_test.tsv": header + constant})
    tiny_tokenizer(tmp_path / "encoder")
    command = ["prepare", f"{tmp_path / 'tasks.yml'}", "--data", f"{tmp_path}", "--encoder", f"{tmp_path / 'encoder'}"]
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert [line.split()[:2] for line in captured.out.splitlines() if line.startswith("two")] == [
        ["two", "train"],
        ["two", "test"],
    ]
    problems = captured.err.splitlines()
    expected = ("for: one test, two dev; skipped", "all 11 rows", ":2: label 'c' is not", ":3: has the uid '0'")
    assert all(words in problem for words, problem in zip(expected, problems, strict=True)), problems
    for name in ("one_train.tsv", "one_dev.tsv"):
        (tmp_path / name).unlink()
    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 0


def test_prepare_says_once_what_is_wrong_with_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "task_type: classification, data_format: single, labels: [a, b], splits: [train, dev, test]"
    row = "uid\tlabel\tpremise\n0\ta\tx\n"
    files = {f"{name}_{split}.tsv": row for name in ("one", "two") for split in ("train", "dev", "test")}
    lay_out(tmp_path, {"tasks.yml": f"one: {{{task}}}\ntwo: {{{task}}}\n", **files})
    lay_out(tmp_path, {"two_train.tsv": row.replace("a\tx", "c\tx")})
    tiny_tokenizer(tmp_path / "encoder")
    options = ["--data", f"{tmp_path}", "--encoder", f"{tmp_path / 'encoder'}", "--max-length", "1"]
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", f"{tmp_path / 'tasks.yml'}", *options])
    first, second = capsys.readouterr().err.splitlines()
    assert exit_.value.code == 2 and "max_length: 1 leaves no room for text beside 2 special tokens" in first
    assert "two_train.tsv:2: label 'c' is not one of a, b" in second


def test_a_command_is_one_file_and_one_line_of_main() -> None:
    commands: Any = typer.main.get_command(app)
    groups = [name for name, command in commands.commands.items() if hasattr(command, "commands")]
    plain = [name.replace("_", "-") for name in COMMANDS if name not in groups]
    assert list(commands.commands) == [*plain, *groups] and len(COMMANDS) == len({*plain, *groups})
    helpers = {"__init__.py", "__main__.py", "main.py", "arguments.py", "analysis_files.py", "streams.py"}
    files = {path.name for path in (ROOT / "mt_dnn" / "cli").glob("*.py")} - helpers
    assert files == {f"{name}.py" for name in COMMANDS}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["bench", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = {"torch", "transformers", "datasets", "pyarrow", "numpy"}
    program = (
        "import sys; from mt_dnn.cli.main import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print(sorted({heavy} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Usage" in done.stdout and done.stderr == "[]\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"mt-dnn {version('mt-dnn')}\n"
