"""The scripts that rebuild the tables of a paper: which commands they give, and what ends them.

A program called ``python`` stands for the real one. It writes down its arguments, and fails where a test wants it to.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mt_dnn.cli.main import app
from tests import ROOT

PAPERS = ("tat", "rapt", "freelb")
PYTHON = """#!/bin/bash
printf '%q ' "$@" >> {log}
echo >> {log}
[[ $* == *"$FAILS"* ]] && exit "$CODE"
exit 0
"""


def reproduce(
    folder: Path, paper: str, *options: str, fails: str = "nothing", code: int = 0, votes: str = ""
) -> tuple[int, str, list[list[str]]]:
    """Runs the script of a paper in a folder. Returns its exit code, its errors, and the commands that it has given."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    (folder / "bin").mkdir()
    log = folder / "log"
    log.touch()
    (folder / "bin" / "python").write_text(PYTHON.format(log=shlex.quote(str(log))))
    (folder / "bin" / "python").chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "RESULTS": str(folder / "results")}
    environment |= {"FAILS": fails, "CODE": str(code), "VOTES": votes}
    command = ["bash", str(folder / "scripts" / f"reproduce_{paper}.sh"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr, [shlex.split(line) for line in log.read_text().splitlines()]


def of_toolkit(commands: list[list[str]]) -> list[list[str]]:
    """The commands that are ``mt-dnn``, without its name."""
    return [command[2:] for command in commands if command[:2] == ["-m", "mt_dnn.cli"]]


def made(commands: list[list[str]], what: str) -> list[str]:
    """The studies that a command is given for, in order."""
    return [Path(command[1]).stem for command in of_toolkit(commands) if command[0] == what]


@pytest.mark.parametrize("paper", PAPERS)
def test_every_study_of_a_paper_is_made_and_shown(paper: str, tmp_path: Path) -> None:
    code, errors, commands = reproduce(tmp_path, paper)
    assert code == 0, errors
    studies = made(commands, "sweep")
    assert sorted(studies) == sorted(
        path.stem for path in (ROOT / "experiments" / paper).glob("*.yml") if "\nprofiles:" in path.read_text()
    )
    assert made(commands, "report") == [study for study in studies for _ in ("table", "page")]
    for arguments in of_toolkit(commands):
        parser = app.parser
        while hasattr(parser, "commands"):
            parser, arguments = parser.commands[arguments[0]], arguments[1:]
        parser.make_context("mt-dnn", arguments)  # it knows all options


@pytest.mark.parametrize("paper", PAPERS)
def test_a_dry_run_plans_all_studies_at_once(paper: str, tmp_path: Path) -> None:
    code, errors, commands = reproduce(tmp_path, paper, "--dry-run")
    assert code == 0, errors
    (command,) = of_toolkit(commands)
    assert command[0] == "sweep" and command[-1] == "--dry-run" and len(commands) == 1
    assert not (tmp_path / "results").exists()


def test_a_study_without_its_rows_is_left_out_and_named(tmp_path: Path) -> None:
    code, errors, commands = reproduce(tmp_path, "freelb", fails="sweep experiments/freelb/table3.yml", code=2)
    assert (code, errors) == (2, "reproduce_freelb: not made, see above: table3\n")
    assert made(commands, "sweep")[-2:] == ["table4", "table8"]
    assert "table3" not in made(commands, "report")


@pytest.mark.parametrize(("fails", "code"), [("sweep experiments/rapt/table2.yml", 1), ("--html", 143)])
def test_whatever_else_fails_ends_the_script(fails: str, code: int, tmp_path: Path) -> None:
    found, _, commands = reproduce(tmp_path, "rapt", fails=fails, code=code)
    assert found == code
    assert fails in " ".join(commands[-1])


def test_figure_2_is_made_from_votes_and_then_drawn(tmp_path: Path) -> None:
    code, errors, commands = reproduce(tmp_path, "tat", votes="votes.jsonl")
    assert code == 0, errors
    agreement = next(i for i, command in enumerate(commands) if "agreement" in command)
    assert "figures1_3.yml" in " ".join(commands[agreement + 1]) and "--html" in commands[agreement + 1]


def test_without_its_models_figure_2_is_left_out(tmp_path: Path) -> None:
    fails = "sweep experiments/tat/figures1_3.yml"
    code, _, commands = reproduce(tmp_path, "tat", fails=fails, code=2, votes="votes.jsonl")
    assert code == 2 and made(commands, "sweep")[-1] == "table3"
    assert not any("agreement" in command for command in commands)


def test_an_unknown_argument_is_refused(tmp_path: Path) -> None:
    code, errors, commands = reproduce(tmp_path, "rapt", "--dry")
    assert (code, commands) == (2, [])
    assert errors == "reproduce_rapt: '--dry': cpu, full or --dry-run is expected\n"
