"""Rows of SuperGLUE that are put together from several fields, as its authors or the hub lay them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_utils.benchmarks.sources import Row, choice_row

TRUTH = {0: "false", 1: "true"}  # False and True too


QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def copa_row(number: int, values: Any) -> Row:
    """The premise with its question; the choices are 0 and 1 in the file."""
    premise = " ".join((values["premise"], QUESTIONS[values["question"]]))
    right = int(values["label"]) + 1 if "label" in values else None
    return choice_row(values["idx"], right, premise, [values["choice1"], values["choice2"]])


def truth(values: Any) -> str:
    return TRUTH[values["label"]] if "label" in values else ""


def wic_row(number: int, values: Any) -> Row:
    """The word stands before the first sentence, as nothing else says which one is asked for."""
    premise = ": ".join((values["word"], values["sentence1"]))
    return {"uid": str(values["idx"]), "label": truth(values), "premise": premise, "hypothesis": values["sentence2"]}


def wsc_row(number: int, values: Any) -> Row:
    """The text, the pronoun between asterisks, and what it may refer to."""
    target, words = values["target"], values["text"].split(" ")
    end = len(target["span2_text"].split(" "))
    location = pronoun_place(words, target["span2_text"], target["span2_index"])
    words[location : location + end] = [f"*{' '.join(words[location : location + end])}*"]
    return {
        "uid": str(values["idx"]),
        "label": truth(values),
        "premise": " ".join(words),
        "hypothesis": target["span1_text"],
    }


def pronoun_place(words: Sequence[str], pronoun: str, index: int) -> int:
    """Where the pronoun stands, nearest to ``index``, which is one too small in a row of the official dev set."""
    bare = re.sub(r"^\W+|\W+$", "", pronoun)
    spelled = re.compile(rf"[^\w ]*{re.escape(bare)}\b", re.IGNORECASE)
    locations = [location for location in range(len(words)) if spelled.match(" ".join(words[location:]))]
    if not locations:
        raise ValueError(f"'{pronoun}' does not stand in the text")
    return min(locations, key=lambda location: abs(location - index))


def multirc_rows(number: int, values: Any, split: str) -> Iterator[Row]:
    """A row per answer: the paragraph, and the question with the answer behind it."""
    passage = values["passage"]
    for question in passage["questions"]:
        location = f"{values['idx']}-{question['idx']}"
        for answer in question["answers"]:
            yield {
                "uid": f"{location}-{answer['idx']}",
                "label": truth(answer),
                "premise": passage["text"],
                "hypothesis": " ".join((question["question"], answer["text"])),
                "question_id": location,
            }


def record_rows(number: int, values: Any, split: str) -> Iterator[Row | None]:
    """A row per query."""
    text = values["passage"]["text"]
    spans = sorted((entity["start"], entity["end"] + 1) for entity in values["passage"]["entities"])
    entities = [text[start:end] for start, end in spans]
    for query in values["qas"]:
        gold = [answer["text"] for answer in query.get("answers", ())]
        yield record_row(query["idx"], text, query["query"], entities, gold, split)


def record_row(
    uid: object, passage: str, query: str, entities: Sequence[str], gold: Sequence[str], split: str
) -> Row | None:
    """The choices are the passage's entities, each text once; in training one of them is right.

    None where no entity is an answer, or none but the answer is left, unless it is to be predicted.
    """
    choices = list(dict.fromkeys(entities))
    right = [location for location, entity in enumerate(choices, 1) if entity in gold]
    if split == "train":
        choices = [entity for location, entity in enumerate(choices, 1) if location not in right[1:]]
        right = right[:1]
    if (not right or len(choices) < 2) and (gold or "test" not in split):
        return None
    row = choice_row(uid, None, passage.replace("@highlight\n", "- "), choices)
    return {**row, "label": " ".join(map(str, right)), "query": query}


def flat_multirc_row(number: int, values: Any) -> Row:
    """As ``multirc_rows``, from the hub's row per answer."""
    paragraph, question, answer = (values["idx"][name] for name in ("paragraph", "question", "answer"))
    return {
        "uid": f"{paragraph}-{question}-{answer}",
        "label": truth(values),
        "premise": values["paragraph"],
        "hypothesis": " ".join((values["question"], values["answer"])),
        "question_id": f"{paragraph}-{question}",
    }


def flat_record_row(number: int, values: Any, split: str) -> Row | None:
    """As ``record_rows``, from the hub's row per query."""
    return record_row(
        values["idx"]["query"], values["passage"], values["query"], values["entities"], values["answers"], split
    )


def flat_wsc_row(number: int, values: Any) -> Row:
    """As ``wsc_row``, from the hub's row."""
    return wsc_row(number, {**values, "target": values})
