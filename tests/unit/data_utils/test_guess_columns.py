"""Which columns have the texts, the labels and the names of rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.column_figures import Column
from data_utils.errors import UserError
from data_utils.guess_columns import Asked, check_names, choose_texts, label_column, uid_column

LONG = "a text of several words"


def columns(count: int = 12, **values: list[object]) -> dict[str, Column]:
    """Columns of rows that repeat these values."""
    found = {name.replace("_", " "): Column(name) for name in values}
    for name, known in values.items():
        for number in range(count):
            found[name.replace("_", " ")].add(known[number % len(known)])
    return found


@pytest.mark.parametrize(
    ("found", "texts"),
    [
        (columns(text=[LONG], title=[LONG]), ("single", ["text"])),
        (columns(Title=[LONG], My_Review=[LONG]), ("single", ["My Review"])),
        (columns(Question1=[LONG], question_2=["x"]), ("pair", ["Question1", "question 2"])),
        (columns(tokens=[["a", "b"]], pos=[["N", "N"]]), ("words", ["tokens"])),
        (
            columns(premise=["x"], choice1=["x"], choice2=["y"], choice3=["z"]),
            ("choices", ["premise", "choice1", "choice2", "choice3"]),
        ),
        (
            columns(premise=[LONG], query=["@placeholder"], choices=[["a", "b"]]),
            ("cloze", ["premise", "query", "choices"]),
        ),
        (columns(question=["x"], context=["x"]), ("question_context", ["question", "context"])),
        (columns(word=[LONG], other=["x"]), ("single", ["word"])),
    ],
)
def test_texts(found: dict[str, Column], texts: tuple[str, list[str]]) -> None:
    assert choose_texts(Path("t.tsv"), found, Asked(), set()) == texts


@pytest.mark.parametrize(
    ("found", "label"),
    [
        (columns(label=["a", "b"], score=["1", "2"]), "label"),
        (columns(text=[LONG], Sentiment=["a", "b"], Product=["c", "d"]), "Sentiment"),
        (columns(text=[LONG], Overall_rating=["1", "2"], Product=["c", "d"]), "Overall rating"),
        (columns(text=[LONG], verdict=["a", "b"]), "verdict"),
    ],
)
def test_labels(found: dict[str, Column], label: str) -> None:
    assert label_column(Path("t.tsv"), found, Asked()) == label
    with pytest.raises(UserError, match="no column looks like labels"):
        label_column(Path("t.tsv"), found, Asked(texts=tuple(found)))


def test_names_of_rows() -> None:
    numbers: list[object] = [*range(12)]
    assert uid_column(columns(text=[LONG], Id=numbers), None) == "Id"
    assert uid_column(columns(text=[LONG], Id=numbers), "Id") is None
    assert uid_column(columns(text=[LONG], Id=numbers[:6]), None) is None
    assert uid_column(columns(text=[LONG], Id=[None, *numbers[1:]]), None) is None


def test_a_row_is_no_line_of_names() -> None:
    found = columns(pos=["neg", "pos"])
    with pytest.raises(UserError, match=r"^t.csv.gz: the first line must have names of columns, but has 'pos'"):
        check_names(Path("t.csv.gz"), found, "pos")
    check_names(Path("t.jsonl"), found, "pos")
    for names in (["gj04", "1", "", "The cat sleeps."], ["x", "this name has too many words for a name"]):
        with pytest.raises(UserError, match="the first line must have names of columns"):
            check_names(Path("t.tsv"), {name: Column(name) for name in names})
    for names in (["", "text"], ["0", "1"], ["", "0", "1"]):
        check_names(Path("t.tsv"), {name: Column(name) for name in names})
