"""The lines that a run prints before its first update."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mt_dnn.adversarial.modes import options_of
from mt_dnn.adversarial.presets import preset_names, read_preset
from mt_dnn.adversarial.vat import VAT
from mt_dnn.runs.banner import banner, describe_mode
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.start import start


def facts(workspace: Path, *settings: str) -> dict[str, list[str]]:
    config = load_config(workspace / "run.yml", list(settings))
    found: dict[str, list[str]] = {}
    for line in banner(config, start(config, shown=False)).splitlines():
        name, _, text = line.partition("  ")
        found.setdefault(name, []).append(text.strip())
    return found


def test_it_says_what_the_run_is(workspace: Path) -> None:
    found = facts(workspace, "tasks=[same]", "adversary=preset:tat/paper", "device=auto")
    (encoder,) = found["encoder"]
    assert encoder.startswith(f"{workspace / 'encoder'} (bert: 2 blocks of ") and "million parameters" in encoder
    assert found["task"] == [
        "same: train 48, dev 40, test 9 rows, batches of 8",
        "same_hard: test 10 rows, not trained",
    ]
    assert found["updates"] == ["12 (2 epochs); dev scores after each epoch, best model by mean"]
    assert found["adversary"] == [
        "tat (preset tat/paper: steps 1, noise_std 1e-05, step_size 0.0001, radius 1e-05, projection clip, weight 1, "
        "stop_gradient none, tally hard)"
    ]
    assert found["optimizer"][0].startswith("adamax with Lookahead, lr 0.001; ")
    assert found["output"] == [str(workspace / "run")]
    assert found["device"][0].split(",")[0] in ("cpu (no GPU was found)", "cuda:0")


def test_tasks_with_other_modes_are_named(workspace: Path) -> None:
    found = facts(
        workspace,
        "tasks=[same, negated]",
        "adversary.mode=rdrop",
        "adversary.weight=2",
        "adversary.tasks.same.mode=none",
    )
    assert found["adversary"] == ["none for same; rdrop (weight 2) for negated"]


def test_every_preset_is_recognised_and_its_values_are_shown(workspace: Path) -> None:
    for name in preset_names():
        described = describe_mode(
            options_of(load_config(workspace / "run.yml", [f"adversary=preset:{name}"]).adversary, "x")
        )
        mode = name.split("/")[0]
        found = re.fullmatch(rf"{mode} \(preset ({mode}/\S+): (.*)\)", described)
        assert found and read_preset(found[1], "") == read_preset(name, "")  # two presets may have the same values
        content = {key: value for key, value in read_preset(name, "").items() if key != "mode"}
        groups = {key: content.pop(key) for key in list(content) if isinstance(content[key], dict)}
        values = content | {f"{key}.{inner}": value for key in groups for inner, value in groups[key].items()}
        shown = dict(text.split(" ") for text in found[2].split(", "))
        assert {key: type(value)(shown.pop(key)) for key, value in values.items()} == values and not shown, name


def test_a_group_of_settings_is_shown_key_by_key() -> None:
    described = describe_mode(VAT.options_type(mode="vat", bregman={"mu": 0.5}))
    assert described == "vat (bregman.mu 0.5, bregman.beta 0.99, bregman.beta_after_warmup 0.999)"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("evaluation.metric=null",), "last model kept"),
        (("evaluation.every_steps=1",), "every 1 update, best"),
        (("evaluation.patience=1", "train.max_steps=1"), "at most 1 (train.max_steps)"),
    ],
)
def test_it_says_when_a_model_is_scored(settings: tuple[str, ...], words: str, workspace: Path) -> None:
    assert words in facts(workspace, "tasks=[same]", *settings)["updates"][0]
