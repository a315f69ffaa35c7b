"""The download from the hub, read from directories laid out like the hub's repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from data_utils.benchmarks.hub import BENCHMARKS, download
from data_utils.errors import UserError
from experiments.arc.convert import TASKS as ARC
from experiments.chunking.convert import TASKS as CHUNKING
from experiments.commonsense_qa.convert import TASKS as CSQA
from experiments.glue.convert import TASKS as GLUE
from experiments.ner.convert import TASKS as NER
from experiments.nli.convert import TASKS as NLI
from experiments.squad.convert import TASKS as SQUAD
from experiments.superglue.convert import TASKS as SUPERGLUE
from experiments.xnli.convert import TASKS as XNLI
from tests.layouts import table


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def parquet(directory: Path, name: str, **columns: list[Any]) -> None:
    path = directory / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def three_splits(directory: Path, config: str, **columns: list[Any]) -> None:
    for split in ("train", "validation", "test"):
        labels = [-1] * len(columns["label"]) if split == "test" else columns["label"]
        parquet(directory, f"{config}/{split}-00000-of-00001", **{**columns, "label": labels})


def test_glue_two_way_labels_and_uids(tmp_path):
    three_splits(tmp_path / "glue", "rte", sentence1=["A", "B"], sentence2=["C", "D"], label=[0, 1], idx=[4, 9])
    report = download("glue", tmp_path / "out", tasks=["rte"], source=str(tmp_path / "glue"))
    assert [(w.split, w.rows) for w in report.written] == [("train", 2), ("dev", 2), ("test", 2)]
    header = ["uid", "label", "premise", "hypothesis"]
    assert table(tmp_path / "out" / "rte_train.tsv") == [
        header,
        ["4", "entailment", "A", "C"],
        ["9", "not_entailment", "B", "D"],
    ]
    assert table(tmp_path / "out" / "rte_test.tsv") == [header, ["4", "", "A", "C"], ["9", "", "B", "D"]]


def test_glue_single_sentences_keep_their_numbers(tmp_path):
    three_splits(tmp_path / "glue", "cola", sentence=["A", "B"], label=[1, 0], idx=[0, 1])
    download("glue", tmp_path / "out", tasks=["cola"], source=str(tmp_path / "glue"))
    assert table(tmp_path / "out" / "cola_dev.tsv") == [
        ["uid", "label", "premise"],
        ["0", "1", "A"],
        ["1", "0", "B"],
    ]


def test_glue_scores(tmp_path):
    three_splits(tmp_path / "glue", "stsb", sentence1=["A"], sentence2=["B"], label=[2.5], idx=[0])
    parquet(tmp_path / "glue", "stsb/test-00000-of-00001", sentence1=["A"], sentence2=["B"], label=[-1.0], idx=[0])
    download("glue", tmp_path / "out", tasks=["stsb"], source=str(tmp_path / "glue"))
    assert table(tmp_path / "out" / "stsb_train.tsv")[1] == ["0", "2.5", "A", "B"]
    assert table(tmp_path / "out" / "stsb_test.tsv")[1] == ["0", "", "A", "B"]


def test_mnli_splits_and_labels(tmp_path):
    texts: dict[str, Any] = {"premise": ["A"] * 3, "hypothesis": ["B"] * 3, "idx": [0, 1, 2]}
    splits = ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"]
    for split in splits:
        labels = [-1] * 3 if "test" in split else [0, 1, 2]
        parquet(tmp_path / "glue", f"mnli/{split}-00000-of-00001", label=labels, **texts)
    download("glue", tmp_path / "out", tasks=["mnli"], source=str(tmp_path / "glue"))
    names = [row[1] for row in table(tmp_path / "out" / "mnli_dev_mismatched.tsv")]
    assert names == ["label", "entailment", "neutral", "contradiction"]
    assert {row[1] for row in table(tmp_path / "out" / "mnli_test_matched.tsv")[1:]} == {""}


def test_several_files_of_one_split_and_rows_without_gold(tmp_path):
    for number in (0, 1):
        for split in ("train", "validation", "test"):
            parquet(
                tmp_path / "snli",
                f"plain_text/{split}-0000{number}-of-00002",
                premise=["A", "B"],
                hypothesis=["C", "D"],
                label=[number, -1],
            )
    report = download("nli", tmp_path / "out", tasks=["snli"], source=str(tmp_path / "snli"))
    assert {(w.rows, w.no_gold) for w in report.written} == {(2, 2)}
    assert table(tmp_path / "out" / "snli_dev.tsv")[1:] == [
        ["0", "entailment", "A", "C"],
        ["2", "neutral", "A", "C"],
    ]


def test_a_text_that_is_not_there_is_empty(tmp_path):
    for split in ("train", "validation", "test"):
        columns: dict[str, list[Any]] = {"premise": ["A", "B"], "hypothesis": [None, "C"], "label": ["entails"] * 2}
        parquet(tmp_path, f"tsv_format/{split}-00000-of-00001", **columns)
    download("nli", tmp_path / "out", tasks=["scitail"], source=str(tmp_path))
    assert table(tmp_path / "out" / "scitail_train.tsv")[1] == ["0", "entails", "A", ""]


def test_label_names_stay(tmp_path):
    for split in ("train", "validation", "test"):
        parquet(tmp_path, f"tsv_format/{split}-00000-of-00001", premise=["A"], hypothesis=["B"], label=["entails"])
    download("nli", tmp_path / "out", tasks=["scitail"], source=str(tmp_path))
    assert table(tmp_path / "out" / "scitail_train.tsv")[1] == ["0", "entails", "A", "B"]


ARC_QUESTION: dict[str, list[Any]] = {
    "id": ["q7"],
    "question": ["Why?"],
    "choices": [{"text": ["So.", "No.", "Yes."], "label": ["A", "B", "C"]}],
    "answerKey": ["B"],
}
ROWS: dict[str, tuple[str, str, dict[str, list[Any]], list[list[str]]]] = {  # files, columns on the hub, canonical rows
    "arc_easy": (
        "arc",
        "ARC-Easy/{}-00000-of-00001",
        ARC_QUESTION,
        [["uid", "label", "premise", "choice1", "choice2", "choice3"], ["q7", "2", "Why?", "So.", "No.", "Yes."]],
    ),
    "commonsense_qa": (
        "commonsense_qa",
        "data/{}-00000-of-00001",
        {**ARC_QUESTION, "question_concept": ["c"]},
        [["uid", "label", "premise", "choice1", "choice2", "choice3"], ["q7", "2", "Why?", "So.", "No.", "Yes."]],
    ),
    "copa": (
        "superglue",
        "copa/{}-00000-of-00001",
        {"premise": ["P."], "choice1": ["A"], "choice2": ["B"], "question": ["cause"], "idx": [3], "label": [1]},
        [["uid", "label", "premise", "choice1", "choice2"], ["3", "2", "P. What was the cause?", "A", "B"]],
    ),
    "cb": (
        "superglue",
        "cb/{}-00000-of-00001",
        {"premise": ["P"], "hypothesis": ["H"], "idx": [5], "label": [1]},
        [["uid", "label", "premise", "hypothesis"], ["5", "contradiction", "P", "H"]],
    ),
    "multirc": (
        "superglue",
        "multirc/{}-00000-of-00001",
        {
            "paragraph": ["P."],
            "question": ["Q?"],
            "answer": ["A."],
            "idx": [{"paragraph": 1, "question": 2, "answer": 3}],
            "label": [1],
        },
        [
            ["uid", "label", "premise", "hypothesis", "question_id"],
            ["1-2-3", "true", "P.", "Q? A.", "1-2"],
        ],
    ),
    "record": (
        "superglue",
        "record/{}-00000-of-00001",
        {
            "passage": ["Ann Lee met Bo."],
            "query": ["@placeholder came"],
            "entities": [["Ann Lee", "Bo"]],
            "answers": [["Bo"]],
            "idx": [{"passage": 0, "query": 9}],
        },
        [
            ["uid", "label", "premise", "choice1", "choice2", "query"],
            ["9", "2", "Ann Lee met Bo.", "Ann Lee", "Bo", "@placeholder came"],
        ],
    ),
    "wsc": (
        "superglue",
        "wsc.fixed/{}-00000-of-00001",
        {
            "text": ["Ann said she knew."],
            "span1_index": [0],
            "span2_index": [2],
            "span1_text": ["Ann"],
            "span2_text": ["she"],
            "idx": [4],
            "label": [1],
        },
        [["uid", "label", "premise", "hypothesis"], ["4", "true", "Ann said *she* knew.", "Ann"]],
    ),
    "wic": (
        "superglue",
        "wic/{}-00000-of-00001",
        {"word": ["w"], "sentence1": ["A w."], "sentence2": ["The w."], "idx": [6], "label": [0]},
        [["uid", "label", "premise", "hypothesis"], ["6", "false", "w: A w.", "The w."]],
    ),
    "squad_v2": (
        "squad",
        "squad_v2/{}-00000-of-00001",
        {
            "id": ["a", "b"],
            "question": ["Who?", "Why?"],
            "context": ["the cat", "the cat"],
            "answers": [{"text": ["cat"], "answer_start": [4]}, {"text": [], "answer_start": []}],
        },
        [
            ["uid", "label", "question", "context"],
            ["a", '[[4, "cat"]]', "Who?", "the cat"],
            ["b", "[]", "Why?", "the cat"],
        ],
    ),
}


@pytest.mark.parametrize("task", ROWS)
def test_rows_that_are_put_together(task, tmp_path):
    benchmark, files, columns, expected = ROWS[task]
    known = BENCHMARKS[benchmark][task]
    for names in known.source.files.values():
        parquet(tmp_path, files.format(names[0]), **columns)
    report = download(benchmark, tmp_path / "out", tasks=[task], source=str(tmp_path))
    assert {written.split for written in report.written} == set(known.source.files)
    assert table(tmp_path / "out" / f"{task}_dev.tsv") == expected


def test_questions_are_counted_as_the_converter_counts_them(tmp_path):
    answers = [{"text": [text], "answer_start": [4]} for text in ("cat", "the", "dog")]
    columns: dict[str, list[Any]] = {"id": list("abc"), "question": ["Who?"] * 3, "context": ["the cat"] * 3}
    for split in ("train", "validation"):
        parquet(tmp_path, f"plain_text/{split}-00000-of-00001", **columns, answers=answers)
    report = download("squad", tmp_path / "out", tasks=["squad"], source=str(tmp_path))
    assert [(written.rows, written.broken) for written in report.written] == [(2, 1)] * 2
    assert report.written[0].labels == {"answered": 1, "answered, moved": 1}


def test_labels_of_words_by_the_names_in_the_file(tmp_path):
    import datasets

    tags = datasets.List(datasets.ClassLabel(names=["O", "B-PER"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    rows = datasets.Dataset.from_dict({"tokens": [["Ann", "came"]], "ner_tags": [[1, 0]]}, features=features)
    for split in ("train", "validation", "test"):
        (tmp_path / "conll2003" / split).mkdir(parents=True)
        rows.to_parquet(tmp_path / "conll2003" / split / "0000.parquet")
    report = download("ner", tmp_path / "out", tasks=["conll2003"], source=str(tmp_path))
    assert [written.labels for written in report.written] == [{"B-PER": 1, "O": 1}] * 3
    assert table(tmp_path / "out" / "conll2003_dev.tsv") == [["uid", "label", "words"], ["0", "B-PER O", "Ann came"]]


def test_an_empty_sentence_is_left_out(tmp_path):
    import datasets

    def tags(*names: str) -> Any:
        return datasets.List(datasets.ClassLabel(names=list(names)))

    features = {"tokens": datasets.List(datasets.Value("string")), "pos_tags": tags("NN", "VB")}
    features["chunk_tags"] = tags("O", "B-NP", "I-NP")
    columns: dict[str, Any] = {"tokens": [["He", "came"], []], "pos_tags": [[0, 1], []], "chunk_tags": [[1, 0], []]}
    rows = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    for split in ("train", "test"):
        (tmp_path / "conll2000" / split).mkdir(parents=True)
        rows.to_parquet(tmp_path / "conll2000" / split / "0000.parquet")
    download("chunking", tmp_path / "out", source=str(tmp_path))
    header = ["uid", "label", "words"]
    assert table(tmp_path / "out" / "conll2000_chunk_test.tsv") == [header, ["0", "B-NP O", "He came"]]
    assert table(tmp_path / "out" / "conll2000_pos_train.tsv") == [header, ["0", "NN VB", "He came"]]


def test_hans_keeps_what_its_rows_test(tmp_path):
    kinds: dict[str, Any] = {"heuristic": ["h", "i"], "subcase": ["s", "t"], "template": ["a", "b"]}
    for split in ("train", "validation"):
        parquet(tmp_path, f"plain_text/{split}/0000", premise=["A", "B"], hypothesis=["C", "D"], label=[0, 1], **kinds)
    download("nli", tmp_path / "out", tasks=["hans"], source=str(tmp_path))
    assert table(tmp_path / "out" / "hans_test.tsv") == [
        ["uid", "label", "premise", "hypothesis", "heuristic", "subcase", "template"],
        ["0", "entailment", "A", "C", "h", "s", "a"],
        ["1", "non-entailment", "B", "D", "i", "t", "b"],
    ]


def test_another_layout_is_one_line(tmp_path):
    parquet(tmp_path, "ARC-Easy/train-00000-of-00001", question=["Why?"])
    with pytest.raises(UserError, match=r"ARC-Easy/train-\*\.parquet: row 1: not a row of arc_easy \(KeyError"):
        download("arc", tmp_path / "out", tasks=["arc_easy"], source=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_names_of_tasks_and_splits_are_those_of_the_converters():
    assert set(BENCHMARKS["glue"]) == set(GLUE)
    assert set(BENCHMARKS["xnli"]) == set(XNLI)
    assert set(BENCHMARKS["nli"]) <= set(NLI)
    further = {"superglue": SUPERGLUE, "arc": ARC, "commonsense_qa": CSQA, "squad": SQUAD}
    further |= {"ner": NER, "chunking": CHUNKING}
    known: dict[str, Any] = {"glue": GLUE, "nli": NLI, "xnli": XNLI, **further}
    for benchmark, converters in known.items():
        for name, task in BENCHMARKS[benchmark].items():
            assert set(task.source.files) == set(converters[name].files)


@pytest.mark.parametrize(
    ("benchmark", "tasks", "message"),
    [
        ("gleu", None, "unknown key 'gleu', did you mean 'glue'"),
        ("glue", ["rt"], "unknown key 'rt', did you mean 'rte'"),
    ],
)
def test_unknown_names(tmp_path, benchmark, tasks, message):
    with pytest.raises(UserError, match=message):
        download(benchmark, tmp_path, tasks=tasks, source=str(tmp_path))


def test_names_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="data nli: unknown key 'scitial', did you mean 'scitail'"):
        download("nli", tmp_path, tasks=["snli", "scitial"], source=str(tmp_path))


@pytest.mark.parametrize("text", [None, 5])
def test_a_text_that_is_none_is_one_line(text, tmp_path):
    span: dict[str, list[Any]] = {"span1_text": ["Ann"], "span2_text": ["she"], "span2_index": [2], "idx": [4]}
    parquet(tmp_path, "wsc.fixed/train-00000-of-00001", text=[text], label=[1], **span)
    with pytest.raises(UserError, match=r"row 1: not a row of wsc \(AttributeError"):
        download("superglue", tmp_path / "out", tasks=["wsc"], source=str(tmp_path))


def test_a_local_source_without_the_file(tmp_path):
    with pytest.raises(UserError, match=r"no file rte/train-\*\.parquet") as error:
        download("glue", tmp_path / "out", tasks=["rte"], source=str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in str(error.value)


def test_a_file_without_the_column(tmp_path):
    parquet(tmp_path, "rte/train-00000-of-00001", sentence1=["A"], label=[0])
    with pytest.raises(UserError, match="no column 'sentence2' among sentence1, label"):
        download("glue", tmp_path / "out", tasks=["rte"], source=str(tmp_path))


def test_a_file_that_is_not_parquet(tmp_path):
    (tmp_path / "rte").mkdir()
    (tmp_path / "rte" / "train-00000-of-00001.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"rte/train-\*\.parquet: ") as error:
        download("glue", tmp_path / "out", tasks=["rte"], source=str(tmp_path))
    assert "\n" not in str(error.value)


def test_no_network(tmp_path, monkeypatch):
    import datasets

    def refuse(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nlong trace")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(UserError, match=r"hf://datasets/nyu-mll/glue/rte/train-\*\.parquet: Couldn't reach") as error:
        download("glue", tmp_path / "out", tasks=["rte"])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_no_code_of_a_repository_is_run(tmp_path, monkeypatch):
    import datasets

    seen: dict[str, object] = {}

    def record(*args: object, **options: object) -> None:
        seen.update(options, builder=args[0])
        raise ConnectionError

    monkeypatch.setattr(datasets, "load_dataset", record)
    with pytest.raises(UserError):
        download("xnli", tmp_path, tasks=["xnli_sw"])
    assert seen["builder"] == "parquet"
    assert "trust_remote_code" not in seen
