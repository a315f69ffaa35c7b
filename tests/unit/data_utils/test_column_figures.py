"""Figures of columns: texts, labels, numbers and lists, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.column_figures import Column, as_list, as_number, count_labels, read_columns
from data_utils.errors import UserError


def column(*values: object) -> Column:
    found = Column("x")
    for value in values:
        found.add(value)
    return found


def test_values_are_counted() -> None:
    found = column("1", "2.5", "x", "", None, "x", ["a", "b"], '["a"]')
    assert (found.rows, len(found.different), found.numbers, found.integers, found.lists) == (6, 5, 2, 1, 2)


@pytest.mark.parametrize(
    ("values", "is_text"),
    [
        (("a b c", "d e f"), True),
        (("good", "bad", "good"), False),
        (("very good", "very bad", "very good", "very bad", "very bad"), False),
        (("good film", "bad film"), True),
        (("一部很好的电影一部很好的电影一部很好的电影",), True),
        (("1", "2"), False),
        ((), False),
        (({"stem": "a text of words"},), False),
    ],
)
def test_texts(values: tuple[object, ...], is_text: bool) -> None:
    assert column(*values).is_text == is_text


def test_lists_and_numbers() -> None:
    assert as_list('["a", 1, 1.50]') == ["a", "1", "1.50"] and as_list("[1] see there") is None and as_list("a") is None
    assert [as_number(text) for text in ("1", "-2.5e3", "1_000", "nan", "x")] == [1, -2500, None, None, None]


def test_labels_are_counted_in_lists_and_in_texts(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text('tags\n["a", "b c"]\n\nO B\n')
    assert count_labels(tmp_path / "t.tsv", "tags", items=True) == {"a": 1, "b c": 1, "O": 1, "B": 1}
    assert count_labels(tmp_path / "t.tsv", "tags", items=False) == {'["a", "b c"]': 1, "O B": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.xlsx",
            "x",
            "a file of rows ends in .tsv, .jsonl, .csv, .parquet, .conll, or one of them and .gz; rename it",
        ),
        ("t.tsv", "a\tb\n1\n", "t.tsv:2: 1 columns, expected 2"),
        ("t.csv", "a,b\n", "the file has no rows"),
        ("t.csv", "text;label\nx;y\n", "has semicolons between its columns; save it as .tsv with tabs, or as .csv"),
        ("t.csv", "text\tlabel\nx\ty\n", "has tabs between its columns"),
        ("t.tsv", "text,label\nx,y\n", "has commas between its columns"),
    ],
)
def test_what_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        read_columns(tmp_path / name)
    assert message in str(error.value)
