"""Guesses of what the task of a file is: right where the rows say it, and refused where they do not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import UserError
from data_utils.guess import Guess, guess
from data_utils.guess_columns import Asked

LONG = "a text of several words"


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(records)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        rows = [list(records[0]), *(list(map(str, record.values())) for record in records)]
        path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def rows(count: int = 12, **columns: Any) -> list[dict[str, Any]]:
    """Rows whose columns are lists that are repeated, or texts to which the number of the row is added."""
    return [
        {
            name.replace("_", " "): values[number % len(values)] if isinstance(values, list) else f"{values} {number}"
            for name, values in columns.items()
        }
        for number in range(count)
    ]


def guessed(folder: Path, records: Sequence[Mapping[str, Any]], name: str = "t.tsv", **asked: Any) -> Guess:
    return guess(write(folder / name, records), [], Asked(**asked))


@pytest.mark.parametrize(
    ("records", "asked", "definition"),
    [
        (
            rows(Review_Text=LONG, Sentiment=["pos", "neg"]),
            {},
            {
                "task_type": "classification",
                "data_format": "single",
                "labels": ["neg", "pos"],
                "metrics": ["accuracy", "f1_macro"],
                "columns": {"premise": "Review Text", "label": "Sentiment"},
            },
        ),
        (
            rows(Nr=["x"], Body=LONG, Verdict=["10", "9", "-1"]),
            {},
            {
                "task_type": "classification",
                "data_format": "single",
                "labels": ["-1", "9", "10"],
                "metrics": ["accuracy", "f1_macro"],
                "columns": {"premise": "Body", "label": "Verdict"},
            },
        ),
        (
            rows(sentence1=LONG, sentence2="b c d", score=["0.5", "3", "4.25"]),
            {},
            {
                "task_type": "regression",
                "data_format": "pair",
                "value_range": [0.5, 4.25],
                "columns": {"premise": "sentence1", "hypothesis": "sentence2", "label": "score"},
            },
        ),
        (
            rows(premise=LONG, hypothesis=LONG, label=["1", "2", "3"]),
            {"task_type": "ordinal"},
            {"task_type": "ordinal", "data_format": "pair", "labels": ["1", "2", "3"]},
        ),
        (
            rows(Q=["why"], A="a", B="b", C="c", N=["1", "2", "3"]),
            {"texts": ("Q", "A", "B", "C"), "label": "N"},
            {
                "task_type": "multiple_choice",
                "data_format": "choices",
                "columns": {"premise": "Q", "choice1": "A", "choice2": "B", "choice3": "C", "label": "N"},
            },
        ),
        (
            rows(Q=["why"], Options=['["a", "b"]'], N=["1", "2"]),
            {"texts": ("Q", "Options"), "label": "N", "task_type": "multiple_choice"},
            {
                "task_type": "multiple_choice",
                "data_format": "choices",
                "columns": {"premise": "Q", "choices": "Options", "label": "N"},
            },
        ),
        (
            rows(text=LONG, topics=['["a", "b"]', "[]", '["c"]']),
            {"label": "topics"},
            {
                "task_type": "multi_label",
                "data_format": "single",
                "labels": ["a", "b", "c"],
                "columns": {"premise": "text", "label": "topics"},
            },
        ),
        (
            rows(text=LONG, note=["x"]),
            {"task_type": "masked_lm"},
            {"task_type": "masked_lm", "data_format": "single", "columns": {"premise": "text"}},
        ),
        (
            rows(question=LONG, context=LONG, label=['[[0, "a"]]']),
            {},
            {"task_type": "span", "data_format": "question_context"},
        ),
        (
            rows(tokens=["a b", "c"], tags=["O B-X", "O"]),
            {},
            {
                "task_type": "sequence_labelling",
                "data_format": "words",
                "labels": ["B-X", "O"],
                "columns": {"words": "tokens", "label": "tags"},
            },
        ),
    ],
)
def test_what_the_rows_say(
    records: list[dict[str, Any]], asked: dict[str, Any], definition: dict[str, Any], tmp_path: Path
) -> None:
    assert guessed(tmp_path, records, **asked).definition == definition


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_values_that_are_not_text(name: str, tmp_path: Path) -> None:
    flags = guessed(tmp_path, rows(body=LONG, spam=[True, False]), name)
    assert flags.definition["labels"] == ["false", "true"] and flags.label == "spam"
    numbers = guessed(tmp_path, rows(body=LONG, rating=[1, 2, 5]), name)
    assert numbers.definition["labels"] == ["1", "2", "5"] and numbers.counts == {"1": 4, "2": 4, "5": 4}
    scores = guessed(tmp_path, rows(body=LONG, rating=[1.0, 2.5]), name)
    assert scores.definition["value_range"] == [1.0, 2.5]
    records = [{"id": n, "tokens": ["a", "b"], "pos": ["N", "N"], "ner_tags": [0, n % 3]} for n in range(6)]
    words = guessed(tmp_path, records, name)
    assert words.definition["labels"] == ["0", "1", "2"] and words.texts == ["tokens"] and words.uid == "id"
    assert words.definition["metrics"] == ["accuracy", "f1_macro"]  # the labels mark no entities


def test_a_word_in_a_name_decides(tmp_path: Path) -> None:
    records = rows(Author_Name="Ann Other", Review_Text=LONG, Product=["a", "b"], Star_Rating=["1", "2"])
    found = guessed(tmp_path, records)
    assert (found.texts, found.label) == (["Review Text"], "Star Rating")


def test_labels_come_from_all_rows_of_all_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", rows(400, text=LONG, label=["a"] * 399 + ["z"]))
    dev = write(tmp_path / "dev.tsv", rows(2, text=LONG, label=["m"]))
    found = guess(train, [dev], Asked())
    assert found.definition["labels"] == ["a", "m", "z"] and found.counts == {"a": 399, "z": 1, "m": 2}


def test_a_column_of_names_of_rows(tmp_path: Path) -> None:
    unique = guessed(tmp_path, rows(idx="", text=LONG, label=["a", "b"]))
    assert unique.uid == "idx" and unique.definition["columns"]["uid"] == "idx"
    assert guessed(tmp_path, rows(idx=["7"], text=LONG, label=["a", "b"])).uid is None
    assert guessed(tmp_path, rows(key="", text=LONG, label=["a", "b"]), uid="key").uid == "key"


def test_conll_files(tmp_path: Path) -> None:
    path = tmp_path / "t.conll"
    path.write_text("EU NNP B-ORG\nsees VBZ O\n\nit PRP O\n")
    assert guess(path, [], Asked()).definition == {
        "task_type": "sequence_labelling",
        "data_format": "words",
        "labels": ["B-ORG", "O"],
    }
    chosen = guess(path, [], Asked(texts=("1",), label="2")).definition
    assert chosen["labels"] == ["NNP", "PRP", "VBZ"] and chosen["columns"] == {"words": "1", "label": "2"}
    with pytest.raises(UserError, match="a CoNLL file is for sequence_labelling"):
        guess(path, [], Asked(task_type="regression"))
    path.write_text("Token POS Tag\nEU NNP B-ORG\nsees VBZ O\n")
    assert guess(path, [], Asked()).definition["columns"] == {"words": "Token", "label": "Tag"}
    other = write(tmp_path / "dev.tsv", rows(words=["a"], label=["O"]))
    with pytest.raises(UserError, match=r"dev.tsv: has another format than .*t.conll; give both as CoNLL, or neither"):
        guess(path, [other], Asked())
    path.write_text("EU\n")
    with pytest.raises(UserError, match="has no labels; a line has a word and its label"):
        guess(path, [], Asked())


@pytest.mark.parametrize(
    ("records", "asked", "message"),
    [
        (rows(text=LONG, Stars=["1", "2"], Sentiment=["p", "n"]), {}, "labels: Stars or Sentiment? Say --label COLUMN"),
        (rows(text=LONG, a=["x", "y"], b=["x", "y"]), {}, "which column has the labels: a or b? Say --label COLUMN"),
        (rows(text=LONG), {}, "no column looks like labels (columns: text); say --label COLUMN, or --type masked_lm"),
        (rows(one=LONG, two=LONG, label=["a", "b"]), {}, "which columns have the texts: one, two? Say --text COLUMN"),
        (rows(one=["x"], label=["a", "b"]), {}, "no column looks like texts (columns: one, label); say --text COLUMN"),
        (rows(text=LONG, label=["a"]), {}, "the labels are a; classification needs 2 or more"),
        (rows(text=LONG, label=["1.5"]), {}, "the labels are all 1.5; regression needs different ones"),
        (
            rows(text=LONG, label=["a", "b"]),
            {"task_type": "regression"},
            "--type regression: the label 'a' is no number",
        ),
        (rows(text=LONG, label=["a", "b", "c"]), {"task_type": "ordinal"}, "so their order is not known"),
        (
            rows(50, text=LONG, label=[f"{n}" for n in range(50)]),
            {},
            "has 50 different integers; say --type regression",
        ),
        (rows(text=LONG, label="l"), {}, "'label' has 12 different values in 12 rows, too many for labels"),
        (
            rows(text=LONG, label=["a", "b"]),
            {"label": "Lable"},
            "--label: no column 'Lable' (text, label), did you mean",
        ),
        (rows(text=LONG, label=["a", "b"]), {"texts": ("x",)}, "--text: no column 'x' (text, label)"),
        (
            rows(text=LONG, label=["a", "b"]),
            {"texts": ("label",), "label": "label"},
            "'label' is given twice among --text",
        ),
        (
            rows(text=LONG, label=["a", "b"]),
            {"task_type": "span"},
            "span needs 2 columns of texts (question, context), not 1",
        ),
        (rows(text=LONG, label=["a", "b"]), {"task_type": "clasification"}, "no 'clasification', did you mean 'class"),
        (rows(this_film_is_good_and_i_liked_it_all=LONG, pos=["neg", "pos"]), {}, "the first line must have names of"),
        (rows(a_film=LONG, pos=["neg", "pos"]), {}, "must have names of columns, but has 'pos'; add a line of names"),
    ],
)
def test_what_cannot_be_told_is_one_line(
    records: list[dict[str, Any]], asked: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        guessed(tmp_path, records, **asked)
    assert message in str(error.value) and "\n" not in str(error.value)
