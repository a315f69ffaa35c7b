"""Questions on contexts in the layout of SQuAD → canonical rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_utils.benchmarks.written import FOUND, LAYOUT_ERRORS, Row, Written, by_answer, write_split
from data_utils.errors import UserError, os_errors
from data_utils.files import LARGEST, read_json, read_text
from data_utils.rows import SPACES
from data_utils.task_types import DATA_FORMATS


@dataclass(frozen=True)
class SquadSource:
    """Questions on contexts: JSON in the layout of SQuAD 1.1 and 2.0.

    If the text of an answer is not at the character that the file says, the nearest position of the text in the context
    is taken, and the question is counted as moved. If no answer is in the context, the question is left out and counted
    as broken.
    """

    files: Mapping[str, Sequence[str]]

    def write(self, path: Path, *, task: str, split: str, output: Path) -> Written:
        """Converts one file. Raises UserError if the file is not in this layout."""
        with os_errors(path, "cannot be read"):
            document = read_json(read_text(path, most=LARGEST), str(path))
        try:
            rows = [
                squad_row(question, paragraph["context"])
                for article in document["data"]
                for paragraph in article["paragraphs"]
                for question in paragraph["qas"]
            ]
        except LAYOUT_ERRORS as error:
            raise UserError(f"{path}: not in SQuAD's layout ({type(error).__name__}: {error})") from None
        columns = DATA_FORMATS["question_context"]
        return write_split(rows, columns, task=task, split=split, output=output, location=path, counted=by_answer)


def squad_row(question: Mapping[str, Any], context: str) -> Row | None:
    """The canonical row of a question in SQuAD's layout. None if the context holds none of its answers."""
    context = context.translate(SPACES)
    answers = [(answer["answer_start"], answer["text"].translate(SPACES)) for answer in question["answers"]]
    found = [(location, text) for start, text in answers if text and (location := nearest(text, context, start)) >= 0]
    if answers and not found:
        return None
    moved = any(answer not in answers for answer in found)
    what = ("answered, moved" if moved else "answered") if answers else "no answer"
    label = json.dumps([list(answer) for answer in found], ensure_ascii=False)
    texts = {"question": question["question"].strip(), "context": context}
    return {"uid": str(question["id"]), "label": label, **texts, FOUND: what}


def nearest(text: str, context: str, start: int) -> int:
    """Where the text begins in the context, nearest to ``start``. −1 if the context does not hold the text."""
    if context.startswith(text, start):
        return start
    locations = [match.start() for match in re.finditer(re.escape(text), context)]
    return min(locations, key=lambda location: abs(location - start), default=-1)
