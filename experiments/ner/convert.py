"""Named entities in columns, CoNLL-2003, WNUT-17 and WikiGold → canonical rows, labels in IOB2."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.sources import ColumnSource

TASKS = {
    "conll2003": ColumnSource(
        {
            "train": ["CoNLL2003/eng.train", "CoNLL2003/train.txt"],
            "dev": ["CoNLL2003/eng.testa", "CoNLL2003/valid.txt"],
            "test": ["CoNLL2003/eng.testb", "CoNLL2003/test.txt"],
        },
        iob1=True,  # no harm to files that others have turned into IOB2
    ),
    "wnut17": ColumnSource(
        {
            "train": ["WNUT17/train.conll", "WNUT17/wnut17train.conll"],
            "dev": ["WNUT17/dev.conll", "WNUT17/emerging.dev.conll"],
            "test": ["WNUT17/test.conll", "WNUT17/emerging.test.annotated"],
        }
    ),
    "wikigold": ColumnSource({"test": ["WikiGold/wikigold.conll.txt"]}, iob1=True),
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
