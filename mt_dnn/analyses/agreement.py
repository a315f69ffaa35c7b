"""Accuracy by how far annotators agreed on a row (Pereira et al. 2021, figure 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import UserError
from data_utils.files import read_json, read_lines
from mt_dnn.analyses.answers import Answers, Record

ANNOTATORS = ("label1", "label2", "label3", "label4", "label5")  # columns of the official MultiNLI and SNLI files
CATEGORIES = ("5-0-0", "4-1-0", "3-2-0", "3-1-1")  # those in which one label has a majority of five votes
TEXTS = (("premise", "hypothesis"), ("sentence1", "sentence2"))  # names of the two texts of a row
UIDS = ("pairID", "uid")

Votes = Sequence[str]


def agreement(runs: Sequence[Answers], annotations: Path | None = None) -> Record:
    """The accuracy of runs on the rows of each category of agreement, such as 3-1-1: three votes, one and one.

    Args:
        annotations: a file with five votes for each row: the official MultiNLI or SNLI as TSV or JSONL, or ChaosNLI.
            It is matched by the column ``pairID`` of the rows, else by their texts. Default: the columns ``label1`` to
            ``label5`` of the rows.

    Raises:
        UserError: the file cannot be read or fits no row, or there are no votes.
    """
    known = None if annotations is None else read_votes(annotations)
    entries, categories = [], dict[str, int]()
    for run in runs:
        found = [category(votes) if votes else None for votes in _votes(run, known)]
        if not any(found):
            where = f"{annotations}: no votes for the rows of" if annotations else "no columns label1 to label5 in"
            raise UserError(f"{where} {run.task}/{run.split}; give a file of them with --annotations")
        entries.append(_by_category(run, found))
        categories = {name: found.count(name) for name in CATEGORIES}
    return {
        "kind": "agreement",
        "task": runs[0].task,
        "split": runs[0].split,
        "annotations": str(annotations) if annotations else None,
        "rows": categories,
        "without_votes": len(runs[-1].gold) - sum(categories.values()),
        "missing": [name for name, count in categories.items() if not count],
        "runs": entries,
    }


def category(votes: Votes) -> str:
    """``3-1-1`` for five votes of which three, one and one agree. Other numbers of votes give other texts."""
    counts = sorted(Counter(votes).values(), reverse=True)
    return "-".join(map(str, [*counts, 0, 0][: max(3, len(counts))]))


def read_votes(path: Path) -> dict[Any, Votes]:
    """The votes of a file, by the uid of a row and by its two texts.

    Raises:
        UserError: the file cannot be read, or has no votes.
    """
    found: dict[Any, Votes] = {}
    for row in _rows(path):
        votes = row.get("old_labels") or row.get("annotator_labels") or [row.get(name) for name in ANNOTATORS]
        votes = [vote for vote in votes if vote] if isinstance(votes, list) else []
        if not votes:
            continue
        found |= {row[name]: votes for name in UIDS if name in row}
        found |= {_key(row[first], row[second]): votes for first, second in TEXTS if first in row and second in row}
    if not found:
        raise UserError(f"{path}: no row has votes, in old_labels, annotator_labels or {ANNOTATORS[0]} to label5")
    return found


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a TSV with a header, or of JSONL. The texts of ChaosNLI are in the object ``example``."""
    header: list[str] = []
    for number, line in read_lines(path):
        if line.startswith("{"):
            values = read_json(line, f"{path}:{number}")
            yield {**values.get("example", {}), **values}
        elif not header:
            header = line.split("\t")
        elif len(fields := line.split("\t")) == len(header):
            yield dict(zip(header, fields, strict=True))
        else:
            raise UserError(f"{path}:{number}: {len(fields)} columns, expected {len(header)}; is the file cut off?")


def _votes(run: Answers, known: Mapping[Any, Votes] | None) -> list[Votes | None]:
    """The votes for each row, or None."""
    if known is None:
        if any(name not in run.columns for name in ANNOTATORS):
            return [None] * len(run.gold)
        return [
            [vote for vote in votes if vote] for votes in zip(*map(run.columns.__getitem__, ANNOTATORS), strict=True)
        ]
    names = run.columns.get("pairID", run.uids)
    return [known.get(name) or known.get(_key(*texts)) for name, texts in zip(names, run.texts, strict=True)]


def _key(*texts: str) -> tuple[str, ...]:
    """The texts with single spaces, as two editions of a data set may differ in spaces."""
    return tuple(" ".join(text.split()) for text in texts)


def _by_category(run: Answers, found: Sequence[str | None]) -> Record:
    accuracy: dict[str, float | None] = {}
    for name in CATEGORIES:
        inside = np.array([category == name for category in found])
        accuracy[name] = float(run.right[inside].mean()) if inside.any() else None
    return {"name": run.run.name, "run": str(run.run.folder), "accuracy": accuracy}
