"""Predictions on SuperGLUE's test sets → the files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_utils.benchmarks.submission import Part, Prediction, main


def jsonl(spelled: Callable[[str], object]) -> Callable[[Path, Sequence[Prediction]], object]:
    """Makes a function that writes JSON lines; ``spelled`` gives an answer as the leaderboard spells it."""

    def write(path: Path, rows: Sequence[Prediction]) -> None:
        records = [json.dumps({"idx": index, "label": spelled(prediction)}) for (index,), prediction in rows]
        path.write_text("".join(f"{record}\n" for record in records), encoding="utf-8")

    return write


def write_multirc(path: Path, rows: Sequence[Prediction]) -> None:
    """Writes one object per passage: its questions with their answers, 1 for an answer that is right, else 0."""
    passages: dict[int, dict[int, list[dict[str, int]]]] = {}
    for (passage, question, answer), prediction in rows:
        answers = passages.setdefault(passage, {}).setdefault(question, [])
        answers.append({"idx": answer, "label": TRUTH.index(prediction)})
    records = [
        json.dumps({"idx": passage, "passage": {"questions": [{"idx": q, "answers": a} for q, a in questions.items()]}})
        for passage, questions in passages.items()
    ]
    path.write_text("".join(f"{record}\n" for record in records), encoding="utf-8")


ENTAILMENT = ("not_entailment", "entailment")
TRUTH = ("false", "true")
PARTS = {
    "BoolQ.jsonl": Part("boolq_test", 3245, TRUTH, jsonl(str)),
    "CB.jsonl": Part("cb_test", 250, ("contradiction", "entailment", "neutral"), jsonl(str)),
    "COPA.jsonl": Part("copa_test", 500, ("1", "2"), jsonl(lambda choice: int(choice) - 1)),  # counted from 0
    "MultiRC.jsonl": Part("multirc_test", 9693, TRUTH, write_multirc, levels=3),
    "ReCoRD.jsonl": Part("record_test", 10000, (), jsonl(str)),
    "RTE.jsonl": Part("rte_superglue_test", 3000, ENTAILMENT, jsonl(str)),
    "WiC.jsonl": Part("wic_test", 1400, TRUTH, jsonl(str)),
    "WSC.jsonl": Part("wsc_test", 146, TRUTH, jsonl(str.capitalize)),  # True and False, here alone
    "AX-b.jsonl": Part("axb_test", 1104, ENTAILMENT, jsonl(str)),
    "AX-g.jsonl": Part("axg_test", 356, ENTAILMENT, jsonl(str)),
}


if __name__ == "__main__":
    sys.exit(main(PARTS, description=__doc__))
