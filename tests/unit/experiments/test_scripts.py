"""Scripts of experiments that no other test runs: their tables, and the modules that shell scripts name."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.adversarial.effect import finished
from experiments.adversarial.table import main
from tests import ROOT

SHELL_SCRIPTS = [path for folder in ("experiments", "scripts") for path in sorted((ROOT / folder).rglob("*.sh"))]


def test_tables_of_adversarial_runs_are_those_of_the_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = ROOT / "experiments" / "results"
    saved = tmp_path / "saved.jsonl"
    monkeypatch.setattr(sys, "argv", ["table.py", str(results / "adversarial_cpu.jsonl"), "--save", str(saved)])
    main()
    document = (results / "adversarial_cpu.md").read_text(encoding="utf-8")
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(printed) > 50 and not [line for line in printed if line not in document]
    marked = {line.split("|")[1].strip() for line in printed if "† |" in line}
    changed = {f"{mode} †" for mode in ("rdrop", "rapt_paper", "rapt_embedding")}
    assert marked == changed | {f"{mode}_{preset} †" for mode in ("vat", "tat") for preset in ("paper", "mtdnn")}
    assert "\n† measured before the presets changed\n" in document
    records = (results / "adversarial_cpu.jsonl").read_text(encoding="utf-8").splitlines()
    assert {name.split("-")[1] for name, _ in finished(results / "adversarial_cpu.jsonl")} == {"none", "r3f", "freelb"}
    assert sorted(saved.read_text(encoding="utf-8").splitlines()) == sorted(records)


def test_modules_that_shell_scripts_name_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SHELL_SCRIPTS]
    modules = {name for text in texts for name in re.findall(r"(?:from|-m) ((?:data_utils|mt_dnn)\.[\w.]+)", text)}
    assert len(modules) > 1
    assert not [name for name in modules if find_spec(name) is None]
