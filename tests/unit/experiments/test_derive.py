"""Rows that experiments/tasks/derive.py makes of other benchmarks' rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.rows import Rows
from experiments.tasks.derive import clozes, grades

FIRST, SECOND = "Ann saw Bob in Rome.", "Then Eve left for Oslo."
THIRD = "It was 1999."
CONTEXT = f"{FIRST} {SECOND} {THIRD}"


def rows(*answers: str, context: str = CONTEXT) -> Rows:
    label = [[(context.index(answer), answer)] for answer in answers]
    uids = [f"q{number}" for number in range(len(answers))]
    return Rows(Path("squad.tsv"), uids, ["?"] * len(answers), [context] * len(answers), label, {})


def test_a_cloze_is_a_sentence_without_its_answer_among_other_answers() -> None:
    made = list(clozes(rows("Rome", "Oslo", "1999", "Bob")))
    assert [row["uid"] for row in made] == ["q0", "q1", "q2", "q3"]
    assert made[1] == {
        "uid": "q1",
        "label": "3",
        "premise": f"{FIRST} {THIRD}",
        "query": "Then Eve left for @placeholder.",
        "choice1": "1999",
        "choice2": "Bob",
        "choice3": "Oslo",
        "choice4": "Rome",
    }
    # Bob is in the query of the first.
    assert made[0]["query"] == "Ann saw Bob in @placeholder." and made[0]["premise"] == SECOND
    assert [made[0][f"choice{number}"] for number in (1, 2, 3, 4)] == [
        "1999",
        "Oslo",
        "Rome",
        "",
    ]


@pytest.mark.parametrize(
    "answers",
    [
        ("Rome", "Oslo"),  # too few to choose from
        ("Rome. Then Eve", "Oslo", "1999"),  # longer than a sentence
        ("Rome", "Oslo", "rome", "in Rome"),  # the same answer, and one that holds it
    ],
)
def test_a_question_without_a_fair_choice_is_left_out(answers: tuple[str, ...]) -> None:
    context = CONTEXT.replace("Ann", "rome") if "rome" in answers else CONTEXT
    assert "q0" not in {row["uid"] for row in clozes(rows(*answers, context=context))}


def test_a_sentence_is_asked_once_for_an_answer() -> None:
    assert [row["uid"] for row in clozes(rows("Oslo", "Oslo", "1999", "Rome"))] == ["q0", "q2", "q3"]


def test_scores_become_the_nearest_grade() -> None:
    pairs = Rows(Path("stsb.tsv"), ["a", "b", "c"], ["x"] * 3, ["y"] * 3, [0.4, 2.5, 4.75], {})
    assert [row["label"] for row in grades(pairs)] == ["0", "3", "5"]
