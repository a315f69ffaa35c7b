"""SQuAD 1.1 and 2.0, and XQuAD → canonical rows."""

from __future__ import annotations

import sys

from data_utils.benchmarks.convert import main
from data_utils.benchmarks.squad import SquadSource

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")
TASKS = {
    "squad": SquadSource(
        {
            "train": ["SQuAD/train-v1.1.json", "SQuAD/*v1.1_train*.json"],
            "dev": ["SQuAD/dev-v1.1.json"],
        }
    ),
    "squad_v2": SquadSource({"train": ["SQuAD/train-v2.0.json"], "dev": ["SQuAD/dev-v2.0.json"]}),
    **{f"xquad_{language}": SquadSource({"test": [f"XQuAD/xquad.{language}.json"]}) for language in LANGUAGES},
}

if __name__ == "__main__":
    sys.exit(main(TASKS, description=__doc__))
