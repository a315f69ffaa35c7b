"""Annotators' votes are read from the official files and from ChaosNLI, and matched with rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils.errors import UserError
from mt_dnn.analyses.agreement import agreement, category, read_votes
from mt_dnn.analyses.answers import Answers, NamedRun

E, N, C = "entailment", "neutral", "contradiction"
VOTES = [[E, E, E, E, E], [N, E, N, N, N], [C, C, N, N, C], [E, N, C, N, N], [E, E, E, E]]
NAMES = ["5-0-0", "4-1-0", "3-2-0", "3-1-1", "4-0-0"]
TEXTS = [(f"premise {number}", f"hypothesis {number}") for number in range(5)]


def answers(predicted: list[int], **further: Any) -> Answers:
    return Answers(
        run=NamedRun("r", Path("r")),
        task="mnli",
        split="dev_matched",
        labels=(C, N, E),
        uids=[str(number) for number in range(5)],
        gold=np.array([2, 1, 0, 1, 2]),
        predicted=np.array(predicted),
        probabilities=np.eye(3)[predicted],
        texts=TEXTS,
        **further,
    )


def test_votes_make_a_category() -> None:
    assert [category(votes) for votes in VOTES] == NAMES
    assert category([E, N, C, "other"]) == "1-1-1-1"


def official_tsv(path: Path) -> None:
    columns = ["index", "pairID", "sentence1", "sentence2", *(f"label{n}" for n in range(1, 6)), "gold_label"]
    rows = [[str(n), f"{n}e", *TEXTS[n], *votes, *[""] * (5 - len(votes)), votes[0]] for n, votes in enumerate(VOTES)]
    path.write_text("".join("\t".join(row) + "\n" for row in [columns, *rows]), encoding="utf-8")


def official_jsonl(path: Path) -> None:
    rows = [
        {"annotator_labels": votes, "pairID": f"{n}e", "sentence1": TEXTS[n][0], "sentence2": TEXTS[n][1]}
        for n, votes in enumerate(VOTES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def chaos(path: Path) -> None:
    rows = [
        {"uid": f"{n}e", "example": {"premise": TEXTS[n][0] + " ", "hypothesis": TEXTS[n][1]}, "old_labels": votes}
        for n, votes in enumerate(VOTES)
        if n in (2, 3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


EXPECTED = {"5-0-0": 1.0, "4-1-0": 0.0, "3-2-0": 1.0, "3-1-1": 0.0}


@pytest.mark.parametrize("columns", [{}, {"pairID": [f"{number}e" for number in range(5)]}], ids=["texts", "pairID"])
@pytest.mark.parametrize("write", [official_tsv, official_jsonl])
def test_official_files(write: Any, columns: dict[str, list[str]], tmp_path: Path) -> None:
    write(tmp_path / "votes")
    record = agreement([answers([2, 0, 0, 2, 2], columns=columns)], tmp_path / "votes")
    assert record["rows"] == dict.fromkeys(EXPECTED, 1) and record["missing"] == []
    assert record["runs"][0]["accuracy"] == EXPECTED
    assert record["without_votes"] == 1  # four votes are no category


def test_rows_of_a_pair_id_are_not_matched_by_their_number(tmp_path: Path) -> None:
    """GLUE numbers its rows, and a pairID may be the number of another row."""
    (tmp_path / "votes").write_text(json.dumps({"uid": "0", "old_labels": VOTES[3], "premise": "x", "hypothesis": "y"}))
    columns = {"pairID": ["7", "8", "0", "9", "5"]}
    record = agreement([answers([2, 0, 0, 2, 2], columns=columns)], tmp_path / "votes")
    assert record["runs"][0]["accuracy"]["3-1-1"] == 1.0  # row 2, whose answer is right


def test_chaosnli_lacks_the_clear_categories(tmp_path: Path) -> None:
    chaos(tmp_path / "chaos.jsonl")
    record = agreement([answers([2, 0, 0, 2, 2])], tmp_path / "chaos.jsonl")
    assert record["missing"] == ["5-0-0", "4-1-0"] and record["without_votes"] == 3
    assert record["runs"][0]["accuracy"] == {"5-0-0": None, "4-1-0": None, "3-2-0": 1.0, "3-1-1": 0.0}


def test_votes_in_the_rows_need_no_file() -> None:
    columns = {f"label{n + 1}": [[*votes, ""][n] for votes in VOTES] for n in range(5)}
    assert agreement([answers([2, 0, 0, 2, 2], columns=columns)])["runs"][0]["accuracy"] == EXPECTED


def test_files_without_votes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("index\tsentence1\tsentence2\n0\tx\ty\n")
    with pytest.raises(UserError, match=r"a\.tsv: no row has votes"):
        read_votes(tmp_path / "a.tsv")
    (tmp_path / "b.tsv").write_text("pairID\tlabel1\n0\n")
    with pytest.raises(UserError, match=r"b\.tsv:2: 1 columns, expected 2"):
        read_votes(tmp_path / "b.tsv")
    chaos(tmp_path / "chaos.jsonl")
    other = answers([0] * 5)
    with pytest.raises(UserError, match=r"chaos\.jsonl: no votes for the rows of mnli/dev_matched"):
        agreement([Answers(**{**vars(other), "texts": [("other", "texts")] * 5})], tmp_path / "chaos.jsonl")
    with pytest.raises(UserError, match="no columns label1 to label5 in mnli/dev_matched; give a file"):
        agreement([other])


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
def test_chaosnli_matches_the_rows_of_mnli() -> None:
    """All rows of ChaosNLI are rows of MNLI's matched dev set; our copy of it has no pairIDs, so by their texts."""
    from data_utils.files import read_lines

    source = Path(os.environ["MT_DNN_REAL_DATA"])
    votes = read_votes(source / "ChaosNLI" / "chaosNLI_mnli_m.jsonl")
    rows = [line.split("\t") for _, line in read_lines(source / "MNLI" / "dev_matched.tsv")][1:]
    found = [votes.get(tuple(" ".join(text.split()) for text in row[1:3])) for row in rows]
    counts = {name: sum(category(given) == name for given in found if given) for name in ("3-2-0", "3-1-1")}
    assert sum(counts.values()) == sum(map(bool, found)) == 1599, counts
