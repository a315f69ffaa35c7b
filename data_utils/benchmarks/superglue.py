"""Makes rows of SuperGLUE from several fields, in the layout of its authors or of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_utils.benchmarks.sources import choice_row
from data_utils.benchmarks.written import Row

TRUTH = {0: "false", 1: "true"}  # the keys False and True are found too


QUESTIONS = {"cause": "What was the cause?", "effect": "What happened as a result?"}


def copa_row(number: int, values: Any) -> Row:
    """The premise with its question, and two choices. The file counts choices from 0."""
    premise = " ".join((values["premise"], QUESTIONS[values["question"]]))
    right = int(values["label"]) + 1 if "label" in values else None
    return choice_row(values["idx"], right, premise, [values["choice1"], values["choice2"]])


def truth(values: Any) -> str:
    """The label "true" or "false". Empty if the row is unlabelled."""
    return TRUTH[values["label"]] if "label" in values else ""


def wic_row(number: int, values: Any) -> Row:
    """The word, a colon and the first sentence; then the second sentence. Only so the row says which word is meant."""
    premise = ": ".join((values["word"], values["sentence1"]))
    return {"uid": str(values["idx"]), "label": truth(values), "premise": premise, "hypothesis": values["sentence2"]}


def wsc_row(number: int, values: Any) -> Row:
    """The text with the pronoun between asterisks, and the words that the pronoun may refer to."""
    target, words = values["target"], values["text"].split(" ")
    count = len(target["span2_text"].split(" "))
    start = pronoun_start(words, target["span2_text"], target["span2_index"])
    words[start : start + count] = [f"*{' '.join(words[start : start + count])}*"]
    return {
        "uid": str(values["idx"]),
        "label": truth(values),
        "premise": " ".join(words),
        "hypothesis": target["span1_text"],
    }


def pronoun_start(words: Sequence[str], pronoun: str, index: int) -> int:
    """The number of the pronoun's first word, nearest to ``index``.

    ``index`` is one too small in a row of the official dev set. Raises ValueError when the text does not hold the
    pronoun.
    """
    bare = re.sub(r"^\W+|\W+$", "", pronoun)
    spelled = re.compile(rf"[^\w ]*{re.escape(bare)}\b", re.IGNORECASE)
    starts = [start for start in range(len(words)) if spelled.match(" ".join(words[start:]))]
    if not starts:
        raise ValueError(f"'{pronoun}' is not in the text")
    return min(starts, key=lambda start: abs(start - index))


def multirc_rows(number: int, values: Any, split: str) -> Iterator[Row]:
    """One row for each answer: the paragraph, and the question followed by the answer."""
    passage = values["passage"]
    for question in passage["questions"]:
        question_id = f"{values['idx']}-{question['idx']}"
        for answer in question["answers"]:
            yield {
                "uid": f"{question_id}-{answer['idx']}",
                "label": truth(answer),
                "premise": passage["text"],
                "hypothesis": " ".join((question["question"], answer["text"])),
                "question_id": question_id,
            }


def record_rows(number: int, values: Any, split: str) -> Iterator[Row | None]:
    """One row for each query."""
    text = values["passage"]["text"]
    spans = sorted((entity["start"], entity["end"] + 1) for entity in values["passage"]["entities"])
    entities = [text[start:end] for start, end in spans]
    for query in values["qas"]:
        gold = [answer["text"] for answer in query.get("answers", ())]
        yield record_row(query["idx"], text, query["query"], entities, gold, split)


def record_row(
    uid: object, passage: str, query: str, entities: Sequence[str], gold: Sequence[str], split: str
) -> Row | None:
    """A row whose choices are the entities of the passage, each text once. A training row keeps one right choice.

    None if no entity is an answer, or if the answer is the only choice. Unlabelled rows of a test set are always kept.
    """
    choices = list(dict.fromkeys(entities))
    right = [number for number, entity in enumerate(choices, 1) if entity in gold]
    if split == "train":
        choices = [entity for number, entity in enumerate(choices, 1) if number not in right[1:]]
        right = right[:1]
    if (not right or len(choices) < 2) and (gold or "test" not in split):
        return None
    row = choice_row(uid, None, passage.replace("@highlight\n", "- "), choices)
    return {**row, "label": " ".join(map(str, right)), "query": query}


def flat_multirc_row(number: int, values: Any) -> Row:
    """As ``multirc_rows``, for the hub, which has one row for each answer."""
    paragraph, question, answer = (values["idx"][name] for name in ("paragraph", "question", "answer"))
    return {
        "uid": f"{paragraph}-{question}-{answer}",
        "label": truth(values),
        "premise": values["paragraph"],
        "hypothesis": " ".join((values["question"], values["answer"])),
        "question_id": f"{paragraph}-{question}",
    }


def flat_record_row(number: int, values: Any, split: str) -> Row | None:
    """As ``record_rows``, for the hub, which has one row for each query."""
    return record_row(
        values["idx"]["query"], values["passage"], values["query"], values["entities"], values["answers"], split
    )


def flat_wsc_row(number: int, values: Any) -> Row:
    """As ``wsc_row``, for the hub, where ``target`` is not a nested object."""
    return wsc_row(number, {**values, "target": values})
