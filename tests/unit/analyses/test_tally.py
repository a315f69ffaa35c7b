"""Tallies of a run are read epoch by epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_utils.errors import UserError
from mt_dnn.analyses.start import ANALYSES
from mt_dnn.analyses.tally import tally
from mt_dnn.studies.analysis_tables import as_text
from mt_dnn.studies.figures import DRAWN


def test_tallies_are_those_of_the_run(folder: Path) -> None:
    record = tally(folder / "tat", "same")
    files = sorted((folder / "tat" / "adversary").glob("same-epoch-*.json"))
    assert [entry["epoch"] for entry in record["epochs"]] == [1, 2, 3, 4, 5] and len(files) == 5
    for entry, file in zip(record["epochs"], files, strict=True):
        assert entry["counts"] == json.loads(file.read_text())["counts"]
    assert record["labels"] == ["different", "same"]
    assert "different" in as_text(record)


def test_what_has_no_tally_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tallies; only runs with adversary\.mode=tat write them"):
        tally(folder / "none")
    with pytest.raises(UserError, match="negated, same have tallies; choose one with --task"):
        tally(folder / "tat")
    with pytest.raises(UserError, match=r"no tally of sme \(there: negated, same\)"):
        tally(folder / "tat", "sme")
    (tmp_path / "adversary").mkdir()
    (tmp_path / "adversary" / "t-epoch-000.json").write_text("{}")
    with pytest.raises(UserError, match="is it a tally of the toolkit"):
        tally(tmp_path)


def test_every_analysis_has_a_table_and_all_but_neighbours_a_figure() -> None:
    assert ANALYSES.keys() == {*DRAWN, "neighbours"}
