"""Do the fast paths change what a run learns? The same runs with and without them, paired by seed.

python experiments/speed/paired_seeds.py data.dir=data/glue

Both runs of a pair have the same rows, batches and first weights. Only the dropout masks differ. Prints the mean
difference of the dev scores, times 100, and its 95 % confidence interval. A finished run is a line of the file of
records, and the same command skips it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from scipy import stats

import mt_dnn
from data_utils.text_table import table
from mt_dnn.runs.config import FAST_PATHS

HERE = Path(__file__).parent
RECORDS = HERE.parent / "results" / "fast_paths_seeds.jsonl"
MODES = ("none", "preset:freelb/bert_base")


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def train(adversary: str, seed: int, fast: bool, overrides: list[str]) -> dict[str, Any]:
    """Trains one run. Returns its record."""
    mode = adversary if ":" in adversary else f"{{mode: {adversary}}}"
    chosen = [f"adversary={mode}", f"train.fast_paths=[{','.join(FAST_PATHS) if fast else ''}]"]
    name = f"{adversary.replace(':', '_').replace('/', '_')}-{'fast' if fast else 'plain'}"
    run = mt_dnn.train(HERE / "paired_seeds.yml", [*overrides, *chosen, f"name={name}", f"seed={seed}"])
    dev = next(result for result in run.results if result["split"] == "dev")
    (metric, score), *_ = dev["scores"].items()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"adversary": adversary, "seed": seed, "fast": fast, "task": dev["task"], metric: score, **versions}


def interval(differences: list[float]) -> str:
    """The mean and its 95 % confidence interval by Student's t."""
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return f"{np.mean(differences):+.2f} [{low:+.2f}, {high:+.2f}]"


def report(records: list[dict[str, Any]], metric: str = "accuracy") -> str:
    """One row for each mode with two pairs or more. Scores are times 100."""
    rows = []
    for adversary in dict.fromkeys(record["adversary"] for record in records):
        by_arm = {
            fast: {r["seed"]: 100 * r[metric] for r in records if (r["adversary"], r["fast"]) == (adversary, fast)}
            for fast in (True, False)
        }
        seeds = sorted(by_arm[True].keys() & by_arm[False].keys())
        if len(seeds) > 1:
            pairs = [(by_arm[True][seed], by_arm[False][seed]) for seed in seeds]
            means = [f"{np.mean(arm):.2f} ± {np.std(arm, ddof=1):.2f}" for arm in zip(*pairs, strict=True)]
            rows.append((adversary, str(len(seeds)), *means, interval([fast - plain for fast, plain in pairs])))
    return table(("adversary", "pairs", "with", "without", "difference, 95 % interval"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value of the run file, for example data.dir=data/glue")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args()
    done = {(record["adversary"], record["seed"], record["fast"]) for record in read(options.records)}
    for seed in options.seeds:
        for adversary in MODES:
            for fast in (True, False):
                if (adversary, seed, fast) not in done:
                    record = train(adversary, seed, fast, options.overrides)
                    with options.records.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
    print(report(read(options.records)))


if __name__ == "__main__":
    main()
