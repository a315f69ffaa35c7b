"""Short runs of every mode, task type and optimizer give the figures in tests/golden/figures.json.

Each kind of figure has a tolerance (``TOLERANCES`` in tests/golden/figures.py). It was chosen by running all
combinations with other vector instructions, with MKL's code for any processor and with two threads. The tolerance is
ten times or more what any of these changed. A change of the algorithms moves some figure by far more than that:
tests/golden/README.md lists both measurements. A change that is meant to change numbers renews the file with
``python -m tests.golden write`` and says why in its commit message.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.extras import missing_extra
from tests.golden.figures import kept, misfits, read_figures
from tests.golden.inputs import PINNED, all_combinations, machine, make_inputs
from tests.golden.runner import run_combination, run_command
from tests.workspace import MORE_TASKS, SHARING_TASKS, TASK_DEFS

NAMES = list(all_combinations(Path()))
MACHINE, GOLDEN = read_figures()


def why_not_comparable() -> str | None:
    """Why the golden figures cannot hold here: random numbers differ between versions and without Intel's MKL."""
    own = machine()
    changed = [name for name in PINNED if own[name].rsplit(".", 1)[0] != MACHINE[name].rsplit(".", 1)[0]]
    if changed:
        return f"the figures were written with {', '.join(f'{name} {MACHINE[name]}' for name in changed)}"
    return None if torch.backends.mkl.is_available() else "without MKL, torch draws other dropout masks"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    make_inputs(folder)
    return folder


@pytest.mark.skipif(why_not_comparable() is not None, reason=str(why_not_comparable()))
@pytest.mark.parametrize("name", NAMES)
def test_a_run_has_its_golden_figures(name: str, inputs: Path) -> None:
    if reason := missing_extra(all_combinations(inputs)[name]):
        pytest.skip(reason)
    figures = run_combination(inputs / "run.yml", inputs / "runs" / name, all_combinations(inputs)[name])
    shutil.rmtree(inputs / "runs" / name)
    wrong = misfits(GOLDEN[name], kept(figures))
    assert not wrong, "\n".join(wrong)


def test_the_golden_file_has_the_combinations() -> None:
    assert list(GOLDEN) == NAMES and len(NAMES) >= 66


def values_of(own: list[str], key: str) -> list[str]:
    """The values that the overrides of a combination give a key, the last of which holds."""
    return [text.split("=", 1)[1] for text in own if text.split("=", 1)[0] == key]


def test_every_mode_type_and_optimizer_has_a_combination() -> None:
    """The names come from the command line, so that one that is added to the product is missed here."""
    schema = json.loads(run_command("config", "--schema"))["$defs"]
    definitions = {**TASK_DEFS, **MORE_TASKS, **SHARING_TASKS}
    seen: dict[str, set[Any]] = {"modes": set(), "optimizers": set(), "types": set(), "pairs": set()}
    for own in all_combinations(Path()).values():
        mode = next(reversed(values_of(own, "adversary.mode")), "none")
        types = {definitions[task]["task_type"] for task in yaml.safe_load(values_of(own, "tasks")[-1])}
        seen["modes"].add(mode)
        seen["types"] |= types
        seen["pairs"] |= {(mode, kind) for kind in types}
        seen["optimizers"].add(next(reversed(values_of(own, "optimizer.name")), "adamax"))
    modes = set(schema["run"]["properties"]["adversary"]["discriminator"]["mapping"])
    types = set(schema["tasks"]["additionalProperties"]["properties"]["task_type"]["enum"])
    optimizers = set(schema["OptimizerConfig"]["properties"]["name"]["enum"])
    assert seen["modes"] == modes and seen["types"] == types
    assert seen["pairs"] == {(mode, kind) for mode in modes for kind in types}
    assert seen["optimizers"] == {name for name in optimizers if not name.startswith("apex_")}


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("SamplingConfig", "strategy"),
        ("ScheduleConfig", "name"),
        ("EncoderConfig", "pooler"),
        ("TrainConfig", "loss_balance"),
        ("TrainConfig", "gradient_surgery"),
    ],
)
def test_every_choice_has_a_combination(section: str, key: str) -> None:
    """All values of these keys but the default, which every other combination has."""
    field = json.loads(run_command("config", "--schema"))["$defs"][section]["properties"][key]
    dotted = f"{section.removesuffix('Config').lower()}.{key}"
    given = {values_of(own, dotted)[-1] for own in all_combinations(Path()).values() if values_of(own, dotted)}
    assert given >= set(field["enum"]) - {field["default"]}
