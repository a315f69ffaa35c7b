"""BoolQ, CB, COPA, RTE, WiC and WSC as SuperGLUE distributes them → canonical rows."""

from __future__ import annotations

import sys
from typing import Any

from data_utils.convert import main
from data_utils.sources import AnySource, Row, RowSource, Source, choice_row

QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def three_splits(folder: str) -> dict[str, list[str]]:
    return {
        split: [f"SuperGLUE/{folder}/{name}.jsonl", f"{folder}/{name}.jsonl"]
        for split, name in (("train", "train"), ("dev", "val"), ("test", "test"))
    }


def copa_row(number: int, values: Any) -> Row:
    """The premise with its question; the choices are 0 and 1 in the file."""
    premise = f"{values['premise']} {QUESTIONS[values['question']]}"
    right = int(values["label"]) + 1 if "label" in values else None
    return choice_row(values["idx"], right, premise, [values["choice1"], values["choice2"]])


def truth(values: Any) -> str:
    return str(values["label"]).lower() if "label" in values else ""


def wic_row(number: int, values: Any) -> Row:
    """The word stands before the first sentence, as nothing else says which one is asked for."""
    premise = f"{values['word']}: {values['sentence1']}"
    return {"uid": str(values["idx"]), "label": truth(values), "premise": premise, "hypothesis": values["sentence2"]}


def wsc_row(number: int, values: Any) -> Row:
    """The text, the pronoun between asterisks, and what it may refer to."""
    target, words = values["target"], values["text"].split(" ")
    place = target["span2_index"]
    pronoun = target["span2_text"].split(" ")
    words[place : place + len(pronoun)] = [f"*{' '.join(words[place : place + len(pronoun)])}*"]
    return {
        "uid": str(values["idx"]),
        "label": truth(values),
        "premise": " ".join(words),
        "hypothesis": target["span1_text"],
    }


TASKS: dict[str, AnySource] = {
    "cb": Source(three_splits("CB"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "boolq": Source(
        three_splits("BoolQ"),
        premise="passage",
        hypothesis="question",
        uid="idx",
        labels={"True": "true", "False": "false"},
    ),
    "copa": RowSource(three_splits("COPA"), copa_row),
    "rte_superglue": Source(three_splits("RTE"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "wic": RowSource(three_splits("WiC"), wic_row),
    "wsc": RowSource(three_splits("WSC"), wsc_row),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
