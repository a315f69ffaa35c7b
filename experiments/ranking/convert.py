"""QNLI's and WNLI's pairs as GLUE distributes them → choices, canonical rows of multiple choice."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import GroupedSource, Source


def labelled_splits(folder: str) -> dict[str, list[str]]:
    """The pairs of the test split do not say which of them belong together."""
    return {split: [f"{folder}/{split}.tsv", f"GLUE/{folder}/{split}.tsv"] for split in ("train", "dev")}


TASKS = {
    "qnli_ranking": GroupedSource(
        Source(labelled_splits("QNLI"), premise="question", hypothesis="sentence"), right="entailment"
    ),
    "wnli_ranking": GroupedSource(Source(labelled_splits("WNLI")), right="1"),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
