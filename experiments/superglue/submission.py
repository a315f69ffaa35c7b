"""Predictions on SuperGLUE's test sets → the files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from data_utils.submission import Part, Prediction, main


def jsonl(spelled: Callable[[str], object]) -> Callable[[Path, Sequence[Prediction]], object]:
    """Writes one object a line, answers as the leaderboard spells them."""

    def write(path: Path, rows: Sequence[Prediction]) -> None:
        lines = [json.dumps({"idx": index, "label": spelled(prediction)}) for index, prediction in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write


TRUTH = ("false", "true")
PARTS = {
    "BoolQ.jsonl": Part("boolq_test", 3245, TRUTH, jsonl(str)),
    "CB.jsonl": Part("cb_test", 250, ("contradiction", "entailment", "neutral"), jsonl(str)),
    "COPA.jsonl": Part("copa_test", 500, ("1", "2"), jsonl(lambda choice: int(choice) - 1)),  # counted from 0
    "RTE.jsonl": Part("rte_superglue_test", 3000, ("not_entailment", "entailment"), jsonl(str)),
    "WiC.jsonl": Part("wic_test", 1400, TRUTH, jsonl(str)),
    "WSC.jsonl": Part("wsc_test", 146, TRUTH, jsonl(str.capitalize)),  # True and False, here alone
}


if __name__ == "__main__":
    sys.exit(main(PARTS, description=__doc__))
