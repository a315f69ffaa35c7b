"""GLUE's own TSV folders → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import Source
from data_utils.benchmarks.tables import ANNOTATORS


def three_splits(folder: str) -> dict[str, list[str]]:
    return {split: [f"{folder}/{split}.tsv"] for split in ("train", "dev", "test")}


def mnli_splits() -> dict[str, list[str]]:
    """MNLI's folder may stand in GLUE's or beside it; its training data may be a part, train_subset.tsv."""
    names = ["train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"]
    files = {name: [f"MNLI/{name}.tsv", f"../MNLI/{name}.tsv"] for name in names}
    files["train"] += ["MNLI/train*.tsv", "../MNLI/train*.tsv"]
    return files


TASKS = {
    "cola": Source(
        three_splits("CoLA"),
        premise="sentence",
        hypothesis=None,
        bare=("source", "label", "mark", "sentence"),
    ),
    "sst2": Source(three_splits("SST-2"), premise="sentence", hypothesis=None),
    "mrpc": Source(three_splits("MRPC"), premise="#1 String", hypothesis="#2 String", label="Quality"),
    "stsb": Source(three_splits("STS-B"), label="score", extra=("genre",)),
    "qqp": Source(
        three_splits("QQP"),
        premise="question1",
        hypothesis="question2",
        label="is_duplicate",
        uid="id",
        skip_broken=True,  # the official train.tsv has a few questions with a line break in the middle
    ),
    "mnli": Source(mnli_splits(), label="gold_label", extra=("pairID", "genre", *ANNOTATORS)),
    "qnli": Source(three_splits("QNLI"), premise="question", hypothesis="sentence"),
    "rte": Source(three_splits("RTE")),
    "wnli": Source(three_splits("WNLI")),
    "ax": Source({"test": ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "MNLI/diagnostic.tsv"]}),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
