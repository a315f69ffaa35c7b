"""Measures training steps of another commit. checkout.py starts this file with that commit's packages.

It reads a JSON object from each line of standard input and answers with one line. It imports nothing of this commit.
Modules and names that have moved are looked for in both locations, from commit b6daf67 on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from importlib import import_module
from typing import Any


def found(name: str, *modules: str) -> Any:
    """The object of this name from the first of the modules that has it."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"no {name} in {', '.join(modules)}")


def main(path: str, overrides: list[str], answers: Any) -> None:
    load_config = found("load_config", "mt_dnn.runs.config_file", "mt_dnn.config_file")
    build_workload = found("build_workload", "mt_dnn.bench.workload", "mt_dnn.bench")
    modes = ("mt_dnn.adversarial.modes", "mt_dnn.adversarial")
    adversaries, build_adversaries = found("ADVERSARIES", *modes), found("build_adversaries", *modes)
    config = load_config(path, overrides)
    work = build_workload(config, "bench adversary --before")
    plain = work.stepper(config.adversary)
    print(json.dumps({"rows": len(work.split), "tokens": int(work.split.lengths.sum())}), file=answers, flush=True)
    steppers: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name, settings = request["name"], request["settings"]
        try:
            if name not in steppers:
                options = adversaries[settings["mode"]].options_type.model_validate(settings)
                steppers[name] = replace(plain, adversaries=build_adversaries(options, {work.task.name: work.task}))
        except (KeyError, ValueError) as error:  # this commit has no such mode, or not these settings
            print(json.dumps({"error": str(error).splitlines()[0]}), file=answers, flush=True)
            continue
        chunk = [sys.modules["numpy"].array(rows) for rows in request["chunk"]]
        start = time.process_time()
        wall = work.seconds(steppers[name], chunk)
        print(json.dumps({"wall": wall, "cpu": time.process_time() - start}), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    # Where this project is installed as editable, a finder of setuptools knows it. It would import modules that the
    # other commit does not have from this one.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "_frozen_importlib" in getattr(finder, "__module__", "")]
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the other commit prints is no answer
    main(sys.argv[1], sys.argv[2:], stream)
