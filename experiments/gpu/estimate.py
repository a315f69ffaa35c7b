"""Where a training step on a GPU stands between its launches and its arithmetic, on paper.

python experiments/gpu/estimate.py > experiments/results/gpu_estimate.md

A GPU works on what the process has launched. So a step takes at least the time to launch its operations, and at least
the time of its matrix products at the GPU's peak. The longer of the two bounds the step. Operations are those that
``python -m tests.pretend_gpu`` has counted for a plain step (AdamW, one task) with one block, and for each more.
With bf16, autocast adds a cast for each weight, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from data_utils.text_table import markdown
from mt_dnn.bench.arithmetic import step_flops
from mt_dnn.bench.synthetic import SHAPES, run_config
from mt_dnn.bench.workload import build_workload

COUNTS = Path(__file__).parents[2] / "tests/pretend_gpu/counts.json"
PLAIN, BLOCK = "none overlap adamw", "each block in none same adamw"
LAUNCH_US = 6.0  # microseconds of the host for an operation; assumed, not measured
PEAK_TFLOPS = 989.0  # an H100 SXM in bf16, as its maker states
COLUMNS = (
    "encoder",
    "batch",
    "operations",
    "launching, ms",
    "TFLOP",
    "arithmetic, ms",
    "bound by",
    "share of peak, at most",
)
PAGE = """# A step on a GPU, on paper
Made by `{command}`. Nothing here was measured on a GPU.

A GPU works on what the process has launched. So a plain step (AdamW, one task) takes at least the time to launch its
operations, and at least the time of its matrix products. The longer of the two bounds the step. Assumptions:

- An operation takes the process {launch:g} µs to launch. This is an assumption: it depends on the processor, and an
  operation may be several kernels.
- Matrix products run at {peak:g} TFLOP/s, the peak of an H100 SXM in bf16 as its maker states it. No step reaches it.
- Operations are counted on a CPU (`tests/pretend_gpu/counts.json`), without the casts of weights that bf16 adds. They
  do not depend on the batch size.
- Rows are as long as those of {lengths}.

{table}
"""


def operations(counts: Path, blocks: int) -> float:
    """The operations of a plain step of an encoder with so many blocks."""
    cases = json.loads(counts.read_text(encoding="utf-8"))["cases"]
    return cases[PLAIN]["operations"] + (blocks - 1) * cases[BLOCK]["operations"]


def flops(shape: str, batch_size: int, lengths: str) -> float:
    """The floating-point operations of a plain step, a mean over batches."""
    overrides = [f"train.batch_size={batch_size}", "device=meta"]
    with run_config(None, overrides, shape=shape, lengths=lengths) as config, torch.device("meta"):
        work = build_workload(config, "estimate")
        return sum(step_flops(work, rows) for rows in work.batches) / len(work.batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--counts", type=Path, default=COUNTS, help="another counts.json, for example of an older commit"
    )
    parser.add_argument("--lengths", default="mnli", help="rows as long as those of this data set")
    options = parser.parse_args()
    rows = []
    for shape in ("base", "xlmr-large"):
        count = operations(options.counts, SHAPES[shape]["num_hidden_layers"])
        for batch_size in (32, 128, 512):
            work = flops(shape, batch_size, options.lengths)
            launching, computing = count * LAUNCH_US / 1e3, work / PEAK_TFLOPS / 1e9
            bound = "launches" if launching > computing else "arithmetic"
            share = computing / max(launching, computing)
            cells = (
                f"{count:.0f}",
                f"{launching:.1f}",
                f"{work / 1e12:.2f}",
                f"{computing:.1f}",
                bound,
                f"{share:.0%}",
            )
            rows.append((shape, batch_size, *cells))
    command = " ".join(["python experiments/gpu/estimate.py", *sys.argv[1:]])
    filled = {"command": command, "launch": LAUNCH_US, "peak": PEAK_TFLOPS, "lengths": options.lengths}
    print(PAGE.format(**filled, table=markdown(COLUMNS, rows)), end="")


if __name__ == "__main__":
    main()
