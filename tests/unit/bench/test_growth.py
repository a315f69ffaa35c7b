"""How cost grows: figures for each size, their exponents, and the files of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mt_dnn.bench import growth
from mt_dnn.cli.main import main


def test_exponents_are_slopes_of_logarithms() -> None:
    sizes = (10, 20, 40)
    found = growth.exponents(sizes, {"linear": [1, 2, 4], "square": [3, 12, 48], "flat": [5, 5, 5]})
    assert found == {"linear": 1.0, "square": 2.0, "flat": 0.0}


def test_files_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growth, "ROWS", (40, 80))
    monkeypatch.setattr(growth, "TASKS", (1, 3))
    monkeypatch.setattr(growth, "EPOCHS", (1, 100))
    monkeypatch.setattr(growth, "STEPS", 2)
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "growth", "--output", str(tmp_path / "out"), "--rounds", "1", "--json"])
    assert exit_.value.code == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert {name: len(values) for name, values in printed["rows"]["cpu_seconds"].items()} == dict.fromkeys(
        ("prepare", "train", "evaluate", "predict"), 2
    )
    assert len(printed["tasks"]["cpu_ms_per_step"]) == len(printed["epochs"]["cpu_ms"]) == 2
    page = (tmp_path / "out" / "scaling.md").read_text()
    assert f"mt-dnn bench growth --output {tmp_path / 'out'} --most-rows 32000 --most-tasks 100 --rounds 1" in page
    assert "| rows | 40 | 80 | exponent |" in page and "](scaling.svg)" in page
    ElementTree.parse(tmp_path / "out" / "scaling.svg")


@pytest.mark.parametrize(("option", "least"), [("--most-rows", 2000), ("--most-tasks", 3)])
def test_one_size_shows_no_growth(option: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "growth", option, str(least - 1)])
    assert exit_.value.code == 2 and f"{option}: give at least {least}" in capsys.readouterr().err
