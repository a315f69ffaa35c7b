"""The download from the hub, read from directories laid out like the hub's repositories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from data_utils.errors import UserError
from data_utils.hub import BENCHMARKS, download
from experiments.glue.convert import TASKS as GLUE
from experiments.nli.convert import TASKS as NLI
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


def test_label_names_stay(tmp_path):
    for split in ("train", "validation", "test"):
        parquet(tmp_path, f"tsv_format/{split}-00000-of-00001", premise=["A"], hypothesis=["B"], label=["entails"])
    download("nli", tmp_path / "out", tasks=["scitail"], source=str(tmp_path))
    assert table(tmp_path / "out" / "scitail_train.tsv")[1] == ["0", "entails", "A", "B"]


def test_names_of_tasks_and_splits_are_those_of_the_converters():
    assert set(BENCHMARKS["glue"]) == set(GLUE)
    assert set(BENCHMARKS["xnli"]) == set(XNLI)
    assert set(BENCHMARKS["nli"]) <= set(NLI)
    for benchmark, converters in {"glue": GLUE, "nli": NLI, "xnli": XNLI}.items():
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
