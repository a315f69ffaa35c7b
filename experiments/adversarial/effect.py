"""Every run behind experiments/results/adversarial_cpu.md, in one process with one thread.

python experiments/adversarial/effect.py --glue data/glue --nli data/nli

Start the command once per core. It skips runs that are finished or that another process is training, and resumes a
run that was cut off. All modes of the first seed come first, so that they make a table early.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from data_utils.errors import UserError
from data_utils.files import replacing
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.folder import write_json
from mt_dnn.runs.run import Run

HERE = Path(__file__).parent
EPOCHS = {"cola": 2, "sst2": 2, "stsb": 1, "mrpc": 1}  # the first two have short rows
MODES = {
    "none": "{mode: none}",
    "rdrop": "preset:rdrop/paper",
    "r3f": "preset:r3f/paper",
    "vat_paper": "preset:vat/paper",
    "vat_mtdnn": "preset:vat/mtdnn",
    "tat_paper": "preset:tat/paper",
    "tat_mtdnn": "preset:tat/mtdnn",
    "freelb": "preset:freelb/bert_base",
    "rapt_paper": "preset:rapt/paper",
    "rapt_words": "preset:rapt/words",
    "rapt_embeddings": "preset:rapt/embeddings",
}
NLI_MODES = ("none", "vat_paper", "tat_paper", "freelb", "rapt_paper")
SAMPLE = 1000  # rows of each set that is evaluated zero-shot


def configurations(seeds: list[int], glue: Path, nli: Path | None, output: Path) -> Iterator[RunConfig]:
    for seed in seeds:
        for mode in MODES:
            for task, epochs in EPOCHS.items():
                name = f"{task}-{mode}"
                overrides = [f"tasks=[{task}]", f"train.epochs={epochs}", f"data.dir={glue}"]
                yield load_config(HERE / "effect.yml", [*overrides, *common(name, mode, seed, output)])
    for seed in seeds if nli is not None else ():
        for mode in NLI_MODES:
            overrides = [f"data.dir={output}/nli_samples"]
            yield load_config(HERE / "effect_nli.yml", [*overrides, *common(f"mnli-{mode}", mode, seed, output)])


def common(name: str, mode: str, seed: int, output: Path) -> list[str]:
    return [f"name={name}", f"seed={seed}", f"adversary={MODES[mode]}", f"output={output}/{name}-seed{seed}"]


def write_samples(glue: Path, nli: Path, output: Path) -> None:
    """Writes the rows of the MNLI runs: all training rows, and random rows of the other sets, the same for all runs."""
    output.mkdir(parents=True, exist_ok=True)
    for folder, split in ((glue, "mnli_dev_matched"), (nli, "snli_test"), (nli, "scitail_test"), (nli, "hans_test")):
        header, *rows = (folder / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = random.Random(split).sample(rows, min(SAMPLE, len(rows)))
        with replacing(output / f"{split}.tsv") as temporary:
            temporary.write_text("".join([header, *kept]), encoding="utf-8")
    with replacing(output / "mnli_train.tsv") as temporary:
        temporary.write_bytes((glue / "mnli_train.tsv").read_bytes())


def train(config: RunConfig) -> None:
    """Trains a run and adds the processor time it took to ``cpu_seconds.json`` in its folder."""
    if (config.output / "summary.json").exists():
        return
    started = time.process_time()
    try:
        if isinstance(Run(config)(), int):
            raise SystemExit("stopped; the same command continues")
    except UserError as error:
        if "another process" not in str(error):
            raise
        return
    record = config.output / "cpu_seconds.json"
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else 0.0
    write_json(record, before + time.process_time() - started)


def finished(file: Path) -> set[tuple[str, int]]:
    """Name and seed of each run in a file that ``table.py --save`` has written. Not if its preset has changed since."""
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {(record["name"], record["seed"]) for record in records if not record.get("preset_changed_since")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, required=True, help="canonical GLUE rows")
    parser.add_argument("--nli", type=Path, help="canonical rows of SNLI, SciTail and HANS; without it no MNLI runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("runs/adversarial"))
    parser.add_argument(
        "--done",
        type=Path,
        help="leave out the finished runs in this file, written by table.py --save",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.nli is not None and not (options.output / "nli_samples").exists():
        write_samples(options.glue, options.nli, options.output / "nli_samples")
    done = finished(options.done) if options.done else set()
    for config in configurations(options.seeds, options.glue, options.nli, options.output):
        if (config.name, config.seed) not in done:
            train(config)


if __name__ == "__main__":
    main()
