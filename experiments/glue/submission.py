"""Predictions on GLUE's test sets → the eleven files of a leaderboard submission, and a zip of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from data_utils.benchmarks.submission import Part, Prediction, main
from data_utils.rows import write_rows


def write_tsv(path: Path, rows: Sequence[Prediction]) -> None:
    records = ({"index": str(index), "prediction": prediction} for (index,), prediction in rows)
    write_rows(path, records, ["index", "prediction"])


BINARY = ("0", "1")
TWO_WAY = ("entailment", "not_entailment")
THREE_WAY = ("entailment", "neutral", "contradiction")
PARTS = {
    "CoLA.tsv": Part("cola_test", 1063, BINARY, write_tsv),
    "SST-2.tsv": Part("sst2_test", 1821, BINARY, write_tsv),
    "MRPC.tsv": Part("mrpc_test", 1725, BINARY, write_tsv),
    "STS-B.tsv": Part("stsb_test", 1379, None, write_tsv),
    "QQP.tsv": Part("qqp_test", 390965, BINARY, write_tsv),
    "MNLI-m.tsv": Part("mnli_test_matched", 9796, THREE_WAY, write_tsv),
    "MNLI-mm.tsv": Part("mnli_test_mismatched", 9847, THREE_WAY, write_tsv),
    "QNLI.tsv": Part("qnli_test", 5463, TWO_WAY, write_tsv),
    "RTE.tsv": Part("rte_test", 3000, TWO_WAY, write_tsv),
    "WNLI.tsv": Part("wnli_test", 146, BINARY, write_tsv),
    "AX.tsv": Part("ax_test", 1104, THREE_WAY, write_tsv),
}


if __name__ == "__main__":
    sys.exit(main(PARTS, description=__doc__))
