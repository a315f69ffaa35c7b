"""SuperGLUE's tasks and diagnostic sets as they are distributed → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import RowSource, Source, each
from data_utils.benchmarks.superglue import copa_row, multirc_rows, record_rows, wic_row, wsc_row
from data_utils.benchmarks.written import AnySource


def three_splits(folder: str) -> dict[str, list[str]]:
    return {
        split: [f"SuperGLUE/{folder}/{name}.jsonl", f"{folder}/{name}.jsonl"]
        for split, name in (("train", "train"), ("dev", "val"), ("test", "test"))
    }


TASKS: dict[str, AnySource] = {
    "cb": Source(three_splits("CB"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "boolq": Source(
        three_splits("BoolQ"),
        premise="passage",
        hypothesis="question",
        uid="idx",
    ),
    "copa": RowSource(three_splits("COPA"), each(copa_row)),
    "multirc": RowSource(three_splits("MultiRC"), multirc_rows),
    "record": RowSource(three_splits("ReCoRD"), record_rows),
    "rte_superglue": Source(three_splits("RTE"), premise="premise", hypothesis="hypothesis", uid="idx"),
    "wic": RowSource(three_splits("WiC"), each(wic_row)),
    "wsc": RowSource(three_splits("WSC"), each(wsc_row)),
    "axb": Source({"test": ["SuperGLUE/AX-b/AX-b.jsonl", "AX-b/AX-b.jsonl"]}, uid="idx"),
    "axg": Source(
        {"test": ["SuperGLUE/AX-g/AX-g.jsonl", "AX-g/AX-g.jsonl"]},
        premise="premise",
        hypothesis="hypothesis",
        uid="idx",
    ),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
