"""Columns of words and labels, and SQuAD's JSON, imitated in the layouts of their authors; and the real files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data_utils.benchmarks.convert import convert
from data_utils.benchmarks.sources import iob2
from data_utils.benchmarks.squad import nearest
from data_utils.rows import read_rows
from data_utils.task_def import load_task_defs
from experiments.chunking.convert import TASKS as CHUNKING
from experiments.ner.convert import TASKS as NER
from experiments.squad.convert import TASKS as SQUAD
from tests import ROOT
from tests.layouts import lay_out, table


def test_iob1_becomes_iob2():
    old = ["I-PER", "I-PER", "O", "I-LOC", "I-PER", "B-PER", "I-PER", "O"]
    assert iob2(old) == ["B-PER", "I-PER", "O", "B-LOC", "B-PER", "B-PER", "I-PER", "O"]
    assert iob2(iob2(old)) == iob2(old)


def test_conll_columns(tmp_path):
    text = "-DOCSTART- -X- O O\n\nU.N. NNP I-NP I-ORG\nofficial NN I-NP O\n\n\nPeter NNP I-NP I-PER\n"
    lay_out(tmp_path, {"CoNLL2003/eng.testb": text})
    report = convert(NER, tmp_path, tmp_path / "out", ["conll2003"])
    assert [(w.split, w.rows, dict(w.labels)) for w in report.written] == [
        ("test", 2, {"B-ORG": 1, "O": 1, "B-PER": 1})
    ]
    rows = table(tmp_path / "out" / "conll2003_test.tsv")
    assert rows == [["uid", "label", "words"], ["0", "B-ORG O", "U.N. official"], ["1", "B-PER", "Peter"]]


def test_chunks_and_parts_of_speech_from_one_file(tmp_path):
    lay_out(tmp_path, {"CoNLL2000/train.txt": "He PRP B-NP\nruns VBZ B-VP\n\n. . O\n"})
    convert(CHUNKING, tmp_path, tmp_path / "out")
    assert [row[1] for row in table(tmp_path / "out" / "conll2000_chunk_train.tsv")[1:]] == ["B-NP B-VP", "O"]
    assert [row[1] for row in table(tmp_path / "out" / "conll2000_pos_train.tsv")[1:]] == ["PRP VBZ", "."]


def test_a_word_without_a_label_is_one_line(tmp_path):
    lay_out(tmp_path, {"WNUT17/dev.conll": "a\tO\nb\n"})
    report = convert(NER, tmp_path, tmp_path / "out", ["wnut17"])
    assert "dev.conll:2: 1 columns, expected 2" in report.failed[0]
    assert not (tmp_path / "out" / "wnut17_dev.tsv").exists()


def test_a_line_that_is_cut_off_is_one_line(tmp_path):
    lay_out(tmp_path, {"CoNLL2003/train.txt": "U.N. NNP I-NP I-ORG  \nofficial NN I-NP O\n\nEU NNP"})
    report = convert(NER, tmp_path, tmp_path / "out", ["conll2003"])
    assert "train.txt:4: 2 columns, expected 4" in report.failed[0]
    assert not (tmp_path / "out" / "conll2003_train.tsv").exists()


def test_a_new_document_ends_a_sentence(tmp_path):
    lay_out(tmp_path, {"WikiGold/wikigold.conll.txt": "a O\n-DOCSTART-\nb O\n"})
    convert(NER, tmp_path, tmp_path / "out", ["wikigold"])
    assert [row[2] for row in table(tmp_path / "out" / "wikigold_test.tsv")[1:]] == ["a", "b"]


def test_squad_as_distributed(tmp_path):
    questions = [
        {"id": "a", "question": " Who? ", "answers": [{"answer_start": 4, "text": "cat"}]},
        {
            "id": "b",
            "question": "What?",
            "answers": [{"answer_start": 5, "text": "cat"}, {"answer_start": 0, "text": "x"}],
        },
        {"id": "c", "question": "Why?", "answers": [], "is_impossible": True},
        {"id": "d", "question": "Where?", "answers": [{"answer_start": 0, "text": "not there"}]},
    ]
    data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": "the\tcat\nsat", "qas": questions}]}]}
    lay_out(tmp_path, {"SQuAD/dev-v2.0.json": json.dumps(data)})
    report = convert(SQUAD, tmp_path, tmp_path / "out", ["squad_v2"])
    (written,) = report.written
    assert (written.rows, written.broken) == (3, 1)
    assert written.labels == {"answered": 1, "answered, moved": 1, "no answer": 1}
    rows = table(tmp_path / "out" / "squad_v2_dev.tsv")
    assert rows[0] == ["uid", "label", "question", "context"]
    assert rows[1] == ["a", '[[4, "cat"]]', "Who?", "the cat sat"]
    assert [row[1] for row in rows[2:]] == ['[[4, "cat"]]', "[]"]
    task = load_task_defs(ROOT / "task_defs" / "squad.yml")["squad_v2"]
    assert read_rows(tmp_path / "out" / "squad_v2_dev.tsv", task).label == [[(4, "cat")], [(4, "cat")], []]


def squad_file(**changes: object) -> str:
    question = {"id": 7, "question": "Who?", "answers": [{"answer_start": 4, "text": "cat"}]}
    return json.dumps({"data": [{"paragraphs": [{"context": "the cat", "qas": [{**question, **changes}]}]}]})


def test_squad_with_a_byte_order_mark(tmp_path):
    lay_out(tmp_path, {"SQuAD/dev-v1.1.json": "\ufeff" + squad_file()})
    convert(SQUAD, tmp_path, tmp_path / "out", ["squad"])
    assert table(tmp_path / "out" / "squad_dev.tsv")[1] == ["7", '[[4, "cat"]]', "Who?", "the cat"]


WRONG_QUESTIONS: list[dict[str, object]] = [
    {"question": 5},
    {"answers": [{"answer_start": 0, "text": None}]},
    {"question": "\ud800"},
]


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"data": [{}]}', '{"data": []}', *(squad_file(**wrong) for wrong in WRONG_QUESTIONS)]
)
def test_other_json_is_one_line(text, tmp_path):
    lay_out(tmp_path, {"SQuAD/dev-v1.1.json": text})
    report = convert(SQUAD, tmp_path, tmp_path / "out", ["squad"])
    assert len(report.failed) == 1 and "dev-v1.1.json" in report.failed[0] and "\n" not in report.failed[0]
    assert not (tmp_path / "out").exists()


def test_nearest():
    assert nearest("ab", "ab xx ab", 0) == 0 and nearest("ab", "ab xx ab", 5) == 6 and nearest("y", "ab", 0) == -1


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
@pytest.mark.parametrize(("sources", "defs"), [(NER, "tagging.yml"), (CHUNKING, "tagging.yml"), (SQUAD, "squad.yml")])
def test_real_files_convert_and_load(sources, defs, tmp_path):
    report = convert(sources, Path(os.environ["MT_DNN_REAL_DATA"]), tmp_path)
    assert report.written and not report.failed
    tasks = load_task_defs(ROOT / "task_defs" / defs)
    for written in report.written:
        rows = read_rows(tmp_path / f"{written.task}_{written.split}.tsv", tasks[written.task])
        assert len(rows) == written.rows and rows.label is not None
