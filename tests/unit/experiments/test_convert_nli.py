"""The NLI sets and XNLI, imitated in the layouts of their authors, and those under MT_DNN_REAL_DATA."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from data_utils.benchmarks.convert import convert
from experiments.nli.convert import TASKS as NLI
from experiments.xnli.convert import TASKS as XNLI
from tests.layouts import lay_out, table

PAIR = ["uid", "label", "premise", "hypothesis"]


def jsonl(*rows: Mapping[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_snli_as_distributed(tmp_path):
    row = {"sentence1": "A\tb", "sentence2": "“C”", "pairID": "1.jpg#0r1n", "captionID": "1.jpg#0"}
    votes = ["neutral", "entailment", "neutral", "neutral", "neutral"]
    text = jsonl(
        {**row, "gold_label": "neutral", "annotator_labels": votes},
        {**row, "gold_label": "-", "annotator_labels": []},
    )
    lay_out(tmp_path, {"snli_1.0/snli_1.0_dev.jsonl": text})
    report = convert(NLI, tmp_path, tmp_path / "out", ["snli"])
    assert [(w.split, w.rows, w.no_gold) for w in report.written] == [("dev", 1, 1)]
    assert table(tmp_path / "out" / "snli_dev.tsv") == [
        [*PAIR, "label1", "label2", "label3", "label4", "label5"],
        ["1.jpg#0r1n", "neutral", "A b", "“C”", *votes],
    ]


def test_snli_rows_with_one_annotator(tmp_path):
    row = {
        "sentence1": "A",
        "sentence2": "B",
        "pairID": "1n",
        "gold_label": "neutral",
        "annotator_labels": ["neutral"],
    }
    lay_out(tmp_path, {"SNLI/snli_1.0_train.jsonl": jsonl(row)})
    convert(NLI, tmp_path, tmp_path / "out", ["snli"])
    assert table(tmp_path / "out" / "snli_train.tsv")[1] == [
        "1n",
        "neutral",
        "A",
        "B",
        "neutral",
        "",
        "",
        "",
        "",
    ]


def test_snli_cad_has_two_halves(tmp_path):
    header = "sentence1\tsentence2\tgold_label\n"
    files = {"original_test": "A\tB\tneutral\n", "revised_combined_test": "A\tC\tentailment\nD\tB\tcontradiction\n"}
    lay_out(tmp_path, {f"SNLI-CAD/{name}.tsv": header + rows for name, rows in files.items()})
    report = convert(NLI, tmp_path, tmp_path / "out", ["snli_cad"])
    assert [(w.split, w.rows) for w in report.written] == [("original_test", 1), ("revised_test", 2)]
    revised = table(tmp_path / "out" / "snli_cad_revised_test.tsv")
    assert revised == [PAIR, ["0", "entailment", "A", "C"], ["1", "contradiction", "D", "B"]]


def test_snli_tsv(tmp_path):
    header = "index\tsentence1\tsentence2\tgold_label\n"
    lay_out(
        tmp_path,
        {
            "SNLI/dev.tsv": header + "4\tA\tB\tneutral\n",
            "SNLI/test_tokenized.tsv": header + "5\tA\tB\t-\n6\tC\tD\tneutral\n",
        },
    )
    report = convert(NLI, tmp_path, tmp_path / "out", ["snli"])
    assert [(w.split, w.rows, w.no_gold) for w in report.written] == [("dev", 1, 0), ("test", 1, 1)]


def test_scitail_has_no_header(tmp_path):
    lay_out(tmp_path, {"SciTailV1.1/tsv_format/scitail_1.0_train.tsv": 'A "b\tC\tentails\nD\tE\tneutral\n'})
    convert(NLI, tmp_path, tmp_path / "out", ["scitail"])
    assert table(tmp_path / "out" / "scitail_train.tsv") == [
        PAIR,
        ["0", "entails", 'A "b', "C"],
        ["1", "neutral", "D", "E"],
    ]


def test_hans(tmp_path):
    columns = "gold_label\tsentence1_parse\tsentence1\tsentence2\tpairID\theuristic\tsubcase\ttemplate\n"
    row = "non-entailment\t(A)\tA\tB\tex0\tlexical_overlap\tln_passive\ttemp1\n"
    lay_out(tmp_path, {"HANS/heuristics_evaluation_set.txt": columns + row})
    report = convert(NLI, tmp_path, tmp_path / "out", ["hans"])
    assert [w.split for w in report.written] == ["test"]
    assert table(tmp_path / "out" / "hans_test.tsv") == [
        [*PAIR, "heuristic", "subcase", "template"],
        ["ex0", "non-entailment", "A", "B", "lexical_overlap", "ln_passive", "temp1"],
    ]


def test_mednli(tmp_path):
    row = {"sentence1": "A", "sentence2": "B", "pairID": "23-x", "gold_label": "entailment"}
    lay_out(tmp_path, {"mednli-1.0.0/mli_dev_v1.jsonl": jsonl(row)})
    convert(NLI, tmp_path, tmp_path / "out", ["mednli"])
    assert table(tmp_path / "out" / "mednli_dev.tsv") == [PAIR, ["23-x", "entailment", "A", "B"]]


def test_anli_letters(tmp_path):
    rows = [{"uid": letter, "context": "A", "hypothesis": "B", "label": letter, "reason": ""} for letter in "enc"]
    lay_out(tmp_path, {"anli_v1.0/R2/train.jsonl": jsonl(*rows)})
    convert(NLI, tmp_path, tmp_path / "out", ["anli_r2"])
    labels = [row[1] for row in table(tmp_path / "out" / "anli_r2_train.tsv")[1:]]
    assert labels == ["entailment", "neutral", "contradiction"]


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a"\n', "mli_train_v1.jsonl:1: not JSON"), (jsonl({"sentence1": "A"}), "no column 'sentence2'")],
)
def test_wrong_jsonl(tmp_path, text, message):
    lay_out(tmp_path, {"MedNLI/mli_train_v1.jsonl": text})
    assert message in convert(NLI, tmp_path, tmp_path / "out", ["mednli"]).failed[0]


def test_a_jsonl_row_without_a_key(tmp_path):
    full = {"sentence1": "A", "sentence2": "B", "pairID": "1", "gold_label": "neutral"}
    lay_out(tmp_path, {"MedNLI/mli_train_v1.jsonl": jsonl(full, {"sentence1": "A", "gold_label": "neutral"})})
    failed = convert(NLI, tmp_path, tmp_path / "out", ["mednli"]).failed
    assert "mli_train_v1.jsonl:2: no 'sentence2'" in failed[0]
    assert not (tmp_path / "out" / "mednli_train.tsv").exists()


XNLI_HEADER = "language\tgold_label\tgenre\tsentence1\tsentence2\n"


def test_xnli_official_file_holds_all_languages(tmp_path):
    rows = "ar\tneutral\tgovt\tأ\tب\nde\tentailment\tgovt\tA\tB\x1dC\nde\tcontradiction\tgovt\tD\tE\n"
    lay_out(tmp_path, {"XNLI-1.0/xnli.dev.tsv": XNLI_HEADER + rows})
    report = convert(XNLI, tmp_path, tmp_path / "out", ["xnli_de", "xnli_ar"])
    assert [(w.task, w.split, w.rows) for w in report.written] == [
        ("xnli_de", "dev", 2),
        ("xnli_ar", "dev", 1),
    ]
    assert table(tmp_path / "out" / "xnli_ar_dev.tsv")[1][1:] == ["neutral", "أ", "ب", "govt"]


def test_a_file_of_another_language_leaves_what_was_there(tmp_path):
    lay_out(tmp_path, {"XNLI/xnli.dev.de.tsv": XNLI_HEADER + "fr\tneutral\tgovt\tA\tB\n"})
    lay_out(tmp_path / "out", {"xnli_de_dev.tsv": "old"})
    report = convert(XNLI, tmp_path, tmp_path / "out", ["xnli_de"])
    assert f"{tmp_path / 'XNLI' / 'xnli.dev.de.tsv'}: no usable rows of xnli_de" in report.failed[0]
    assert (tmp_path / "out" / "xnli_de_dev.tsv").read_text() == "old"


def test_annotators_that_are_no_list(tmp_path):
    row = {"sentence1": "A", "sentence2": "B", "pairID": "1n", "gold_label": "neutral", "annotator_labels": 5}
    lay_out(tmp_path, {"SNLI/snli_1.0_dev.jsonl": jsonl(row)})
    assert [w.rows for w in convert(NLI, tmp_path, tmp_path / "out", ["snli"]).written] == [1]


def test_xnli_one_file_per_language(tmp_path):
    lay_out(tmp_path, {"XNLI/xnli.test.sw.tsv": XNLI_HEADER + "sw\tneutral\tgovt\tA\tB\n"})
    report = convert(XNLI, tmp_path, tmp_path / "out")
    assert [(w.task, w.split, w.rows) for w in report.written] == [("xnli_sw", "test", 1)]
    assert len(XNLI) == 15


@pytest.mark.real_data
@pytest.mark.skipif("MT_DNN_REAL_DATA" not in os.environ, reason="MT_DNN_REAL_DATA is not set")
def test_official_row_counts(tmp_path):
    source = Path(os.environ["MT_DNN_REAL_DATA"])
    nli = convert(NLI, source, tmp_path, ["snli", "scitail", "hans"])
    counts = {(w.task, w.split): w.rows for w in nli.written}
    assert counts == {
        ("snli", "dev"): 9842,
        ("snli", "test"): 9824,
        ("scitail", "test"): 2126,
        ("hans", "test"): 30000,
    }
    xnli = convert(XNLI, source, tmp_path)
    assert {(w.split, w.rows) for w in xnli.written} == {("dev", 2490), ("test", 5010)}
    assert len(xnli.written) == 30
