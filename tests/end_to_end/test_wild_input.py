"""Any input ends in success or in one message: a sample of what ``python -m tests.wild_input`` checks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from data_utils.errors import LONGEST
from tests.wild_input.__main__ import Search, search
from tests.wild_input.check import Case, problem, wrong_end
from tests.wild_input.kinds import KINDS

EXAMPLES = 150


def test_any_input_ends_in_success_or_in_one_message(tmp_path: Path) -> None:
    found = search(tmp_path, EXAMPLES, 1, list(KINDS))
    assert not found.faults, "\n".join(found.faults.values())
    assert found.counts.keys() == KINDS.keys() and found.counts.total() >= EXAMPLES / 2


def test_a_traceback_is_a_fault_that_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr("mt_dnn.runs.config_file.read_yaml_file", broken)
    (tmp_path / "run.yml").write_text("task_defs: tasks.yml\n")
    found = Search(tmp_path, tmp_path, 1)
    found.run("run files", 3)
    assert any(fault.startswith("ZeroDivisionError at ") for fault in found.faults.values())
    assert (tmp_path / "fault0" / "command").read_text() == "mt-dnn config run.yml\n"
    assert (tmp_path / "fault0" / "run.yml").exists()


def test_a_command_that_never_ends_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.wild_input.check.WALL_S", 0.2)
    monkeypatch.setattr("mt_dnn.runs.config_file.read_yaml_file", lambda *_: time.sleep(60))
    assert problem(Case(["config", "run.yml"], {"run.yml": b"a: 1"}), tmp_path / "case").startswith("hangs: ")


@pytest.mark.parametrize(
    ("code", "errors", "said"),
    [
        (0, "", ""),
        (2, "mt-dnn: a.tsv: wrong\n", ""),
        (2, "", "exit code 2 without a message"),
        (1, "mt-dnn: a.tsv: wrong\n", "exit code 1"),
        (-9, "", "exit code -9"),
        (2, f"mt-dnn: {'x' * (LONGEST + 1)}\n", f"a message of {LONGEST + 1} characters"),
        (2, "mt-dnn: \x9b2J\n", "prints '\\x9b'"),
    ],
)
def test_ends_that_break_the_promise(code: int, errors: str, said: str) -> None:
    assert wrong_end(code, "", errors).startswith(said) and bool(wrong_end(code, "", errors)) == bool(said)
