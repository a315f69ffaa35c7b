"""The baseline of every metric, against a search through all constant answers to a few rows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from data_utils.encoded_rows import encode_rows
from data_utils.features import load_tokenizer
from data_utils.metrics import METRICS, Answers
from data_utils.prepared import Prepared
from data_utils.python_rows import rows_from_python
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.runs.evaluate import baseline
from mt_dnn.tasks.choices import best_order
from mt_dnn.tasks.kinds import KINDS
from tests.tiny import WORDS, tiny_tokenizer

Rows = list[dict[str, Any]]
LABELS = {
    "classification": ("a", "b"),
    "sequence_labelling": ("O", "B-X", "I-X", "B-Y"),
    "multi_label": ("a", "b", "c"),
    "ordinal": ("a", "b", "c", "d"),
}
FORMATS = {name: entry.formats[0] for name, entry in TASK_TYPES.items()}
CLASS_SETS = [["a"], ["a", "b"], ["c"], []]


def task_of(kind: str, **fields: Any) -> TaskDef:
    every = {"name": "t", "task_type": kind, "data_format": FORMATS[kind], "labels": LABELS.get(kind, ())}
    return TaskDef.model_validate({**TASK_TYPES[kind].defaults, **every, "metrics": TASK_TYPES[kind].metrics, **fields})


def rows_of(task: TaskDef, seed: int) -> Rows:
    rng = random.Random(seed)
    favourite, rows = rng.randrange(4), []
    for number in range(rng.choice([4, 7, 12])):
        words = [rng.choice(WORDS[:14]) for _ in range(rng.randint(1, 4))]
        row: dict[str, Any] = {"uid": str(number), "premise": " ".join(words), "question_id": str(number // 3)}
        match task.type.answer:
            case "class":
                row["label"] = rng.choice([*task.labels, task.labels[favourite % task.n_class]])
            case "class_set":
                row["label"] = rng.choice([CLASS_SETS[favourite], [name for name in "abc" if rng.random() < 0.6]])
            case "number":
                row["label"] = str(rng.random())
            case "word_classes":
                row |= {"words": words, "label": [rng.choice(task.labels) for _ in words]}
            case "choice" | "choices":
                count = rng.randint(2, 4)
                choices = [rng.choice(WORDS[:5]) + " " + rng.choice(WORDS[:3]) for _ in range(count)]
                right = sorted({rng.choice([min(favourite + 1, count), rng.randint(1, count)]) for _ in range(2)})
                several = task.type.answer == "choices"
                row |= {"choices": choices, "label": right if several else str(right[0]), "query": "x @placeholder"}
            case "spans":
                start = rng.choice([0, rng.randrange(len(words))])
                text = " ".join(words[start:])
                answer = [len(" ".join(["", *words[:start]])) if start else 0, text]
                nothing = task.no_answer and rng.randrange(4) < favourite
                row |= {"question": "the cat", "context": " ".join(words), "label": [] if nothing else [answer]}
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TaskDef, int], Prepared]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    tokenizer = load_tokenizer(str(folder))

    def encode(task: TaskDef, seed: int) -> Prepared:
        rows = rows_from_python(rows_of(task, seed), task, labelled=True)
        assert rows is not None
        return encode_rows(rows, task, tokenizer, max_length=32)

    return encode


def constant_answers(task: TaskDef, split: Prepared, gold: Answers) -> Iterator[Answers]:
    """Every constant answer that can score differently from the others."""
    count = len(gold.labels)

    def answer(predictions: Any, scores: Any = None) -> Answers:
        return Answers(
            np.asarray(predictions), gold.labels, scores, gold.n_class, gold.names, gold.bounds, gold.questions
        )

    match task.type.answer:
        case "class" | "word_classes":
            for number in range(task.n_class):
                yield answer([number] * count, np.eye(task.n_class)[[number] * count])
        case "class_set":
            for chosen in product([0, 1], repeat=task.n_class):
                yield answer(np.tile(chosen, (count, 1)))
        case "number":
            for value in (-1.0, 0.3, 2.5):
                yield answer(np.full(count, value))
        case "choice" | "choices":
            assert split.groups is not None
            there = np.arange(4) < np.diff(split.groups)[:, None]
            for order in permutations([0.1, 0.2, 0.3, 0.4]):
                scores = np.where(there, order, 0.0)
                if split.candidates is None:
                    yield answer(scores.argmax(1), scores)
                else:
                    pairs = zip(split.candidates.texts.to_pylist(), scores.argmax(1), strict=True)
                    yield answer(np.array([choices[number] for choices, number in pairs], object))
        case "spans":
            assert split.contexts is not None
            contexts = [split.contexts.texts[window].as_py() for window in split.firsts]
            answers = {text for right in gold.labels for text in right if text or task.no_answer}
            for predictions in [contexts, *([text] * count for text in sorted(answers))]:
                yield answer(np.array(predictions, object))


def is_text(answers: Answers) -> bool:
    """Whether all predictions are one text that is not empty."""
    return len(set(answers.predictions)) == 1 and answers.predictions[0] != ""


def test_many_choices_are_ordered_by_how_often_they_are_right() -> None:
    labels = np.array([11, 11, 11, 4, 4, 7])
    assert best_order(labels, np.full(6, 12))[:3] == [11, 4, 7]


CASES = [
    *((kind, {}) for kind in TASK_TYPES if kind != "masked_lm"),
    ("span", {"no_answer": True}),
    ("classification", {"labels": ("a", "b", "c"), "metrics": ("accuracy", "f1_macro", "f1_micro", "mcc")}),
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("kind", "fields"), CASES, ids=str)
def test_no_constant_answer_is_better(
    kind: str, fields: dict[str, Any], seed: int, encoded: Callable[[TaskDef, int], Prepared]
) -> None:
    task = task_of(kind, **fields)
    split = encoded(task, seed)
    decoding, found = KINDS[kind].decoding, baseline(task, split)
    assert list(found) == list(task.metrics)
    first = next(decoding.constants(task, split))
    gold = decoding.answers(task, split, first)
    tried = list(constant_answers(task, split, gold))
    for name in task.metrics:
        metric = METRICS[name]
        if not metric.scalar:
            assert found[name] == metric.function(decoding.answers(task, split, first))
            continue
        values: Any = [metric.function(answers) for answers in tried]
        if kind == "span" and name == "answer_f1":  # the best of no answer, the context, and one text
            values = [value for value, answers in zip(values, tried, strict=True) if not is_text(answers)]
            assert found[name] >= max(values) - 1e-12
        else:
            assert found[name] == pytest.approx((min if metric.lower_is_better else max)(values))
