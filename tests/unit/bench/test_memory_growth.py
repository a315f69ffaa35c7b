"""How memory grows: what is read of a process, the files of a folder, and the rows that commands get."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from mt_dnn.bench import memory_growth
from mt_dnn.bench.memory_growth import FEW, Case, Peak, memory_of
from mt_dnn.cli.main import main


def test_private_memory_is_what_a_process_has_for_itself() -> None:
    size = 50_000_000
    library = max((Path(torch.__file__).parent / "lib").iterdir(), key=lambda path: path.stat().st_size)  # on a disk
    private, resident = memory_of(os.getpid())
    mapped = np.memmap(library, np.uint8, "r", shape=size)
    assert mapped.any() and int(mapped.max()) == 255
    with_file = memory_of(os.getpid())
    assert with_file[0] - private < 5000 and with_file[1] - resident > 45_000  # 10³ bytes
    with mmap.mmap(-1, size) as own:  # from the system: an allocator may hand out pages that this process already holds
        own.write(b"\1" * size)
        assert memory_of(os.getpid())[0] - with_file[0] > 45_000


def test_processes_that_have_ended_have_no_memory() -> None:
    assert memory_of(2**22 + 1) == (0, 0)


def test_each_command_reads_as_many_rows_as_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_growth, "peak_of", lambda words, messages: Peak(1, 1, 1))
    case = Case(tmp_path, 5000)
    commands = dict(case.commands(["prepare", "train", "evaluate", "predict", "distill"]))
    assert commands["evaluate"][3:] == [str(tmp_path / "data"), "--split", "train"]
    assert commands["predict"][3] == str(tmp_path / "data" / "sst2_train.tsv")
    lines = (tmp_path / "data" / "sst2_train.tsv").read_text().splitlines()
    assert len(lines) == 5001 and len({line.split("\t")[2] for line in lines}) == 5001
    assert len((tmp_path / "few" / "sst2_train.tsv").read_text().splitlines()) == FEW + 1


@pytest.mark.parametrize(
    ("wanted", "before"),
    [("prepare", []), ("train", []), ("report", ["sweep"]), ("evaluate", ["train"]), ("distill", ["train"])],
)
def test_a_run_is_trained_only_for_a_command_that_reads_it(
    wanted: str, before: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def peak_of(words: Sequence[str], messages: Path) -> Peak:
        started.append(words[0])
        return Peak(1, 1, 1)

    monkeypatch.setattr(memory_growth, "peak_of", peak_of)
    assert [name for name, _ in Case(tmp_path, 100).commands([wanted])] == [wanted]
    assert started == before


def test_files_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_growth, "FEW", 100)
    started: list[str] = []

    def peak_of(words: Sequence[str], messages: Path) -> Peak:
        started.append(words[0])
        return Peak(100.0 + len(started), 300.0, 1.0)

    monkeypatch.setattr(memory_growth, "peak_of", peak_of)
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "memory", "--output", str(tmp_path / "the out"), "--rows", "100,200", "--json"])
    assert exit_.value.code == 0
    assert started == [*memory_growth.COMMANDS[:5], "sweep", "report"] * 2
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads((tmp_path / "the out" / "memory.json").read_text())
    assert printed["rows"] == [100, 200] and printed["private_megabytes"]["train"] == [102.0, 109.0]
    page = (tmp_path / "the out" / "memory.md").read_text()
    assert f"mt-dnn bench memory --output '{tmp_path / 'the out'}' --rows 100,200`" in page
    assert "| `train` | 102 | 109 | 7 |" in page and "](memory.svg)" in page
    ElementTree.parse(tmp_path / "the out" / "memory.svg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "2000"], "--rows: give two numbers or more"),
        (["--rows", "2000,1000"], "--rows: give two numbers or more"),
        (["--rows", "2000,many"], "--rows: give two numbers or more"),
        (["--commands", "serve"], "--commands: 'serve' is unknown (known: prepare, train"),
    ],
)
def test_wrong_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "memory", *options])
    assert exit_.value.code == 2 and message in capsys.readouterr().err
