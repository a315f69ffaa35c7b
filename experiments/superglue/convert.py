"""CB, BoolQ and COPA as SuperGLUE distributes them → canonical rows."""

from __future__ import annotations

import sys
from typing import Any

from data_utils.convert import ChoiceSource, Source, main

QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def three_splits(folder: str) -> dict[str, list[str]]:
    return {
        split: [f"SuperGLUE/{folder}/{name}.jsonl", f"{folder}/{name}.jsonl"]
        for split, name in (("train", "train"), ("dev", "val"), ("test", "test"))
    }


def copa_row(number: int, values: Any) -> tuple[str, int | None, str, list[str]]:
    """The premise with its question; the choices are 0 and 1 in the file."""
    premise = f"{values['premise']} {QUESTIONS[values['question']]}"
    right = int(values["label"]) + 1 if "label" in values else None
    return str(values["idx"]), right, premise, [values["choice1"], values["choice2"]]


TASKS: dict[str, Source | ChoiceSource] = {
    "cb": Source(three_splits("CB"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "boolq": Source(
        three_splits("BoolQ"),
        premise="passage",
        hypothesis="question",
        uid="idx",
        labels={"True": "true", "False": "false"},
    ),
    "copa": ChoiceSource(three_splits("COPA"), copa_row),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
