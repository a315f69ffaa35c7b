"""SNLI, SNLI-CAD, SciTail, HANS, MedNLI and ANLI as their authors distribute them → canonical rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import Source
from data_utils.benchmarks.tables import ANNOTATORS

LETTERS = {"e": "entailment", "n": "neutral", "c": "contradiction"}


def three_splits(*names: str, splits: Sequence[str] = ("train", "dev", "test")) -> dict[str, list[str]]:
    return {split: [name.format(split) for name in names] for split in splits}


TASKS = {
    "snli": Source(
        three_splits("snli_1.0/snli_1.0_{}.jsonl", "SNLI/snli_1.0_{}.jsonl", "SNLI/{}.tsv", "SNLI/{}_*.tsv"),
        label="gold_label",
        uid="pairID",
        extra=ANNOTATORS,
    ),
    "snli_cad": Source(
        {
            f"{half}_{split}": [f"SNLI-CAD/{file}_{split}.tsv"]
            for half, file in (("original", "original"), ("revised", "revised_combined"))
            for split in ("dev", "test")
        },
        label="gold_label",
    ),
    "scitail": Source(
        three_splits("SciTailV1.1/tsv_format/scitail_1.0_{}.tsv", "SciTail/scitail_1.0_{}.tsv", "SciTail/{}.tsv"),
        premise="premise",
        hypothesis="hypothesis",
        bare=("premise", "hypothesis", "label"),
    ),
    "hans": Source(
        {
            "train": ["HANS*/heuristics_train_set*", "hans*/heuristics_train_set*"],
            "test": ["HANS*/heuristics_evaluation_set*", "hans*/heuristics_evaluation_set*"],
        },
        label="gold_label",
        uid="pairID",
        extra=("heuristic", "subcase", "template"),
    ),
    "mednli": Source(
        three_splits("mednli*/mli_{}_v1.jsonl", "MedNLI/mli_{}_v1.jsonl"), label="gold_label", uid="pairID"
    ),
    **{
        f"anli_r{number}": Source(
            three_splits(f"anli_v1.0/R{number}/{{}}.jsonl", f"ANLI/R{number}/{{}}.jsonl"),
            premise="context",
            hypothesis="hypothesis",
            uid="uid",
            labels=LETTERS,
        )
        for number in (1, 2, 3)
    },
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
