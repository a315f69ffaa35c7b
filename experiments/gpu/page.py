"""The page of scripts/gpu_check.sh: what the tests said, and a table of the records of ``mt-dnn bench gpu``.

python experiments/gpu/page.py --tests gpu_tests.txt --records gpu.jsonl --output gpu.md \
    --device cuda --command 'bash scripts/gpu_check.sh'
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers

from data_utils.files import replacing
from data_utils.text_table import markdown

COLUMNS = {
    "shape": "encoder",
    "batch_size": "batch",
    "precision": "precision",
    "mode": "mode",
    "examples_per_s": "examples/s",
    "tokens_per_s": "tokens/s",
    "ms_per_step": "ms/step",
    "ratio": "ours / Trainer",
    "multiple": "plain steps",
    "share_of_floor": "share of floor",
    "operations": "operations",
    "waits": "waits",
    "peak_mb": "peak MB",
    "error": "error",
}


def read(file: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The records that are complete, and what is said about the machine at their end. Empty if it has not come."""
    records, machine = [], {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the command was stopped while it wrote
            continue
        if "machine" in record:
            machine = record["machine"]
        else:
            records.append(record)
    return records, machine


def page(tests: str, records: list[dict[str, Any]], machine: dict[str, Any], *, command: str, device: str) -> str:
    """The text of the page. ``command``: what was typed. ``device``: what was measured, for example cuda:1 or cpu."""
    on_gpu = device != "cpu"
    name = torch.cuda.get_device_name(device) if on_gpu else f"{device} ({platform.machine()})"
    summary = next((line for line in reversed(tests.splitlines()) if " in " in line), "stopped before their end")
    failures = [f"- {line}" for line in tests.splitlines() if line.startswith(("FAILED", "ERROR"))]
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "Python": platform.python_version(),
    }
    heading = [
        "# On a GPU" if on_gpu else "# A trial of the GPU check on a CPU",
        "",
        *([] if on_gpu else ["No figure here says anything about a GPU: this is a CPU.", ""]),
        f"    {command}",
        "",
        f"{name}, {', '.join(f'{package} {version}' for package, version in versions.items())}.",
        "",
        f"**Is it right?** `tests/gpu`: {summary.strip('= ')}.",
        *failures,
        "",
        "**How fast is it?** " + ("Lengths of " + machine["lengths"] + "." if machine else "Stopped before its end."),
        "",
    ]
    used = [key for key in COLUMNS if any(key in record for record in records)]
    rows = [[str(record.get(key, "")) for key in used] for record in records]
    return "\n".join([*heading, markdown([COLUMNS[key] for key in used], rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, required=True, help="what pytest has printed")
    parser.add_argument("--records", type=Path, required=True, help="what mt-dnn bench gpu --json has printed")
    parser.add_argument("--command", required=True, help="the command that was typed")
    parser.add_argument("--device", required=True, help="the device that was measured")
    parser.add_argument("--output", type=Path, required=True, help="the page")
    options = parser.parse_args()
    with replacing(options.output) as temporary:
        text = page(
            options.tests.read_text(encoding="utf-8"),
            *read(options.records),
            command=options.command,
            device=options.device,
        )
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
