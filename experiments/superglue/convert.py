"""SuperGLUE's tasks and diagnostic sets as they are distributed → canonical rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from data_utils.convert import main
from data_utils.sources import AnySource, Row, RowSource, Source, choice_row, each

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


def multirc_rows(number: int, values: Any, split: str) -> Iterator[Row]:
    """A row per answer: the paragraph, and the question with the answer behind it."""
    passage = values["passage"]
    for question in passage["questions"]:
        place = f"{values['idx']}-{question['idx']}"
        for answer in question["answers"]:
            yield {
                "uid": f"{place}-{answer['idx']}",
                "label": ("false", "true")[answer["label"]] if "label" in answer else "",
                "premise": passage["text"],
                "hypothesis": f"{question['question']} {answer['text']}",
                "question_id": place,
            }


def record_rows(number: int, values: Any, split: str) -> Iterator[Row]:
    """A row per query; the choices are the passage's entities, each text once; in training one of them is right."""
    text = values["passage"]["text"]
    spans = sorted((entity["start"], entity["end"] + 1) for entity in values["passage"]["entities"])
    entities = list(dict.fromkeys(text[start:end] for start, end in spans))
    passage = text.replace("@highlight\n", "- ")
    for query in values["qas"]:
        gold = {answer["text"] for answer in query.get("answers", ())}
        choices, right = entities, [place for place, entity in enumerate(entities, 1) if entity in gold]
        if split == "train":
            choices = [entity for place, entity in enumerate(entities, 1) if place not in right[1:]]
            right = right[:1]
        row = choice_row(query["idx"], None, passage, choices)
        yield {**row, "label": " ".join(map(str, right)), "query": query["query"]}


TASKS: dict[str, AnySource] = {
    "cb": Source(three_splits("CB"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "boolq": Source(
        three_splits("BoolQ"),
        premise="passage",
        hypothesis="question",
        uid="idx",
        labels={"True": "true", "False": "false"},
    ),
    "copa": RowSource(three_splits("COPA"), each(copa_row)),
    "multirc": RowSource(three_splits("MultiRC"), multirc_rows),
    "record": RowSource(three_splits("ReCoRD"), record_rows),
    "rte_superglue": Source(three_splits("RTE"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "wic": RowSource(three_splits("WiC"), each(wic_row)),
    "wsc": RowSource(three_splits("WSC"), each(wsc_row)),
    "axb": Source({"test": ["SuperGLUE/AX-b/AX-b.jsonl", "AX-b/AX-b.jsonl"]}, uid="idx"),
    "axg": Source(
        {"test": ["SuperGLUE/AX-g/AX-g.jsonl", "AX-g/AX-g.jsonl"]},
        premise="premise",
        hypothesis="hypothesis",
        uid="idx",
    ),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
