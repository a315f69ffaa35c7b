"""CoNLL files: any columns, by number or name; what is no word; and errors that name the line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from data_utils.benchmarks.convert import convert
from data_utils.conll import read_conll
from data_utils.errors import UserError
from data_utils.inputs import matching, read_inputs
from data_utils.rows import find_rows, read_rows
from data_utils.task_def import TaskDef, load_task_defs
from experiments.ner.convert import TASKS as NER
from tests import ROOT

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # I-NP O

\t
Peter NNP B-NP B-PER
"""
CONLL_U = """# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_

# sent_id = 2
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def task(folder: Path, more: str = "", labels: str = "[O, B-ORG, B-PER]") -> TaskDef:
    (folder / "tasks.yml").write_text(
        f"ner: {{task_type: sequence_labelling, data_format: words, metrics: [accuracy], labels: {labels}{more}}}\n"
    )
    return load_task_defs(folder / "tasks.yml")["ner"]


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["ner_train.conll", "ner_train.conll.gz"])
def test_the_first_column_has_the_words_and_the_last_the_labels(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, CONLL_2003)
    ner = task(tmp_path)
    assert find_rows(tmp_path, ner, "train") == path
    rows = read_rows(path, ner)
    assert rows.first == ["EU rejects #", "Peter"] and rows.label == [[1, 0, 0], [2]]
    assert rows.uid == ["1", "2"] and rows.locations == [f"{path}:3", f"{path}:8"] and rows.extra == {}


def test_columns_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "t.conll", CONLL_2003)
    ner = task(tmp_path, ", columns: {words: 2, label: 3}", "[B-NP, B-VP, I-NP]")
    assert read_rows(path, ner).first == ["NNP VBZ #", "NNP"] and read_rows(path, ner).label == [[0, 1, 2], [0]]
    universal = task(tmp_path, ", columns: {words: 2, label: 4}", "[VERB, PRON, SYM]")
    rows = read_rows(write(tmp_path / "u.conll", CONLL_U), universal)
    assert rows.first == ["Vamos nos", "#"] and rows.label == [[0, 1], [2]]


def test_columns_by_name(tmp_path: Path) -> None:
    ner = task(tmp_path, ", columns: {words: The Word, label: Tag}", "[O, X]")
    path = write(tmp_path / "t.conll", "# made by hand\nPOS\tThe Word\tTag\nN\ta\tO\r\nN\t#b\tX\r\n\r\nN\tc\tO")
    rows = read_rows(path, ner)
    assert rows.first == ["a #b", "c"] and rows.label == [[0, 1], [0]]


def test_a_file_of_words_alone_is_unlabelled(tmp_path: Path) -> None:
    path = write(tmp_path / "t.conll", "EU\n#\n\n# a comment\nPeter\n")
    assert list(read_conll(path, {})) == [(f"{path}:1", {"words": ["EU", "#"]}), (f"{path}:5", {"words": ["Peter"]})]
    assert read_rows(path, task(tmp_path)).label is None
    named = task(tmp_path, ", columns: {label: 4}")
    with pytest.raises(UserError, match=rf"{path}: no column '4' .columns.label; the lines have 1"):
        read_rows(path, named)
    rows = read_rows(path, named, test=True)
    assert rows.label is None and "no column '4'" in rows.notice


def test_sentences_to_predict(tmp_path: Path) -> None:
    ner = task(tmp_path, ", columns: {words: 2, label: 3}")
    path = write(tmp_path / "new.conll", "1 EU\n2 rejects\n\n1 it\n")
    _, rows = matching(read_inputs(str(path), [ner]), [ner])
    found = list(rows)
    assert [row.texts(ner) for row in found] == [{"words": "EU rejects"}, {"words": "it"}]
    assert [(row.uid(ner), row.location) for row in found] == [("1", f"{path}:1"), ("2", f"{path}:4")]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a O\nb\n", "", ":2: 1 column, expected 2, as the first line has"),
        ("a\tO\nb\t\n", "", ":2: column 2 (label) is empty; write one word with one label"),
        ("a\tO\nNew York\tO\n", "", ":2: column 1 (words) 'New York' has a space; write one word"),
        ("a O\n", ", columns: {words: 3}", ": no column '3' (columns.words; the lines have 2)"),
        ("a O\n", ", columns: {words: 0}", ": no column '0' (columns.words; the lines have 2)"),
        (
            "Wort Tag\na O\n",
            ", columns: {words: Word}",
            ": no column 'Word' (columns.words; the file has Wort, Tag), did",
        ),
        (
            "Word Tag\na O\n",
            "",
            ":1: looks like names of columns; name two of them in the task file, such as columns: {w",
        ),
        ("Word\tNER\na\tO\n", "", ":1: looks like names of columns; name two of them"),
        ("Word Tag Tag\na X O\n", ", columns: {words: Word, label: Tag}", ": two columns have the name 'Tag'; rename"),
        ("a O\n\nb B-LOC\n", "", ":3: label 'B-LOC' is not one of O, B-ORG, B-PER"),
        ("\n# nothing\n-DOCSTART- O\n", "", ": the file is empty"),
    ],
)
def test_what_is_refused_names_the_line(text: str, columns: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "t.conll", text)
    with pytest.raises(UserError) as error:
        read_rows(path, task(tmp_path, columns))
    assert f"{path}{message}" in str(error.value) and "\n" not in str(error.value)


def test_other_tasks_read_no_words(tmp_path: Path) -> None:
    path = write(tmp_path / "t.conll", "a O\n")
    (tmp_path / "tasks.yml").write_text("rte: {task_type: classification, data_format: pair}\n")
    rte = load_task_defs(tmp_path / "tasks.yml")["rte"]
    for read in (lambda: read_rows(path, rte), lambda: read_inputs(str(path), [rte])):
        with pytest.raises(UserError, match="a CoNLL file has words with labels, but rte reads premise, hypothesis"):
            read()


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
def test_real_files_are_read_as_their_words_are_written(tmp_path: Path) -> None:
    """Against the converter of WNUT-17, and against plain splitting of CoNLL-2000."""
    source = Path(os.environ["MT_DNN_REAL_DATA"])
    convert(NER, source, tmp_path, ["wnut17"])
    wnut17 = load_task_defs(ROOT / "task_defs" / "tagging.yml")["wnut17"]
    for split in ("train", "dev", "test"):
        converted = read_rows(tmp_path / f"wnut17_{split}.tsv", wnut17)
        original = read_rows(source / "WNUT17" / f"{split}.conll", wnut17)
        assert (original.first, original.label) == (converted.first, converted.label)
    text = (source / "CoNLL2000" / "test.txt").read_text()
    (tmp_path / "chunks.conll").write_text(text)
    sentences = [[line.split() for line in part.splitlines()] for part in text.split("\n\n") if part.strip()]
    read = [sentence for _, sentence in read_conll(tmp_path / "chunks.conll", {"label": "2"})]
    assert read == [{"words": [f[0] for f in lines], "label": [f[1] for f in lines]} for lines in sentences]
