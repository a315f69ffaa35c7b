"""Presets and settings of single tasks: what is merged with what, and errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_utils.errors import UserError
from mt_dnn.adversarial.modes import ADVERSARIES, options_of
from mt_dnn.adversarial.presets import preset_names
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import dump_config, load_config

MINIMAL = "task_defs: tasks.yml\noutput: runs/x\ndata: {dir: d}\nencoder: {name: bert-base-uncased}\n"


def load(folder: Path, *overrides: str, yaml: str = "") -> RunConfig:
    path = folder / "run.yml"
    path.write_text(MINIMAL + yaml)
    return load_config(path, overrides)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_the_run_folder(name: str, tmp_path: Path) -> None:
    config = load(tmp_path, f"adversary=preset:{name}")
    assert config.adversary.mode == name.split("/")[0]
    dump_config(config, tmp_path / "dumped.yml")
    assert load_config(tmp_path / "dumped.yml") == config


# Zhu et al. 2020: epsilon, alpha, m; and the size of the first perturbation in the public scripts
TABLE_6 = {
    "mnli": (0.2, 0.1, 2, 0.1),
    "qnli": (0.15, 0.1, 2, 0.15),
    "qqp": (0.45, 0.15, 2, 0.32),
    "rte": (0.15, 0.03, 3, 0.16),
    "sst2": (0.6, 0.1, 2, 1.0),
    "mrpc": (0.4, 0.04, 3, 0.64),
    "cola": (0.2, 0.025, 3, 0.4),
    "stsb": (0.3, 0.1, 3, 0.16),
}
# --max-norm, --adv-lr, --adv-steps and --rand-init-mag of the last lines in fairseq-RoBERTa/launch/FreeLB
SCRIPTS = {
    "mnli": (0.3, 0.1, 2, 0.1),
    "qnli": (0.15, 0.075, 2, 0.15),
    "qqp": (0.7, 0.2, 2, 0.32),
    "rte": (0.14, 0.06, 3, 0.16),
    "sst2": (0.6, 0.1, 2, 1.0),
    "mrpc": (0.4, 0.04, 3, 0.64),
    "cola": (0.3, 0.025, 3, 0.4),
    "stsb": (0.28, 0.1, 3, 0.16),
}


@pytest.mark.parametrize("task", TABLE_6)
def test_presets_of_freelb_count_as_the_paper_or_as_the_scripts(task: str, tmp_path: Path) -> None:
    """In the paper's box m is the number of passes. The scripts make m steps, so one pass more."""
    folder = f"preset:freelb/roberta_large/{task}"
    paper, scripts, old = (load(tmp_path, f"adversary={folder}{name}") for name in ("/paper", "/scripts", ""))
    names = ("radius", "step_size", "passes", "init_magnitude")
    for config, (radius, step_size, passes, init) in ((paper, TABLE_6[task]), (scripts, SCRIPTS[task])):
        expected = (radius, step_size, passes + (config is scripts), init)
        assert tuple(config.adversary.model_dump()[name] for name in names) == expected
    assert old.adversary == paper.adversary


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("vat/mtdnn", "embeddings"),
        ("tat/mtdnn", "embeddings"),
        ("rapt/embeddings", "embeddings"),
        ("rapt/words", "words"),
        ("vat/paper", "words"),
        ("tat/paper", "words"),
        ("r3f/paper", "words"),
    ],
)
def test_presets_perturb_the_embeddings_that_their_source_perturbs(name: str, level: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"adversary=preset:{name}").adversary.model_dump()["level"] == level


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_a_mode_alone_has_its_default_settings(mode: str, tmp_path: Path) -> None:
    expected = ADVERSARIES[mode].options_type.model_validate({"mode": mode})
    assert load(tmp_path, f"adversary.mode={mode}").adversary == expected
    assert load(tmp_path, f"adversary={mode}").adversary == expected
    assert load(tmp_path, yaml=f"adversary: {mode}\n").adversary == expected


def test_a_preset_replaces_what_stood_before_and_later_keys_change_it(tmp_path: Path) -> None:
    old = "adversary: {mode: freelb, passes: 5, tasks: {rte: {radius: 0.1}}}\n"
    config = load(tmp_path, "adversary=preset:tat/mtdnn", "adversary.weight=0.5", yaml=old)
    assert config.adversary == ADVERSARIES["tat"].options_type.model_validate(
        {
            "mode": "tat",
            "level": "embeddings",
            "projection": "normalize",
            "radius": 1,
            "step_size": 1e-5,
            "weight": 0.5,
            "stop_gradient": "kl_target",
        }
    )
    inside = load(tmp_path, yaml="adversary: {preset: tat/mtdnn, weight: 0.5}\n")
    assert inside.adversary == config.adversary
    other = load(tmp_path, yaml="adversary: {preset: freelb/roberta_large/rte, mode: pgd}\n").adversary
    assert (other.mode, other.model_dump()["radius"]) == ("pgd", 0.15)


def test_settings_of_single_tasks(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "adversary=preset:vat/mtdnn",
        "adversary.tasks.rte.weight=2",
        "adversary.tasks.cola.mode=none",
        "adversary.tasks.mrpc=preset:freelb/roberta_large/mrpc",
    )
    rte, cola, mrpc, sst2 = (options_of(config.adversary, task) for task in ("rte", "cola", "mrpc", "sst2"))
    assert rte.model_dump()["weight"] == 2 and rte.model_dump()["projection"] == "normalize"
    assert (cola.mode, mrpc.mode, mrpc.model_dump()["passes"]) == ("none", "freelb", 3)
    assert sst2.model_dump() | {"tasks": {}} == config.adversary.model_dump() | {"tasks": {}}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("bregman.beta=0.8", {"mu": 0.3, "beta": 0.8, "beta_after_warmup": 0.999}),
        ("bregman.mu=2", {"mu": 2, "beta": 0.9, "beta_after_warmup": 0.999}),
        ("bregman=null", None),
        ("weight=2", {"mu": 0.3, "beta": 0.9, "beta_after_warmup": 0.999}),
    ],
)
def test_a_task_changes_single_keys_of_a_group(override: str, expected: Any, tmp_path: Path) -> None:
    config = load(tmp_path, "adversary={mode: vat, bregman: {mu: 0.3, beta: 0.9}}", f"adversary.tasks.rte.{override}")
    assert options_of(config.adversary, "rte").model_dump()["bregman"] == expected


def test_a_task_has_a_group_that_the_run_leaves_out(tmp_path: Path) -> None:
    config = load(tmp_path, "adversary.mode=vat", "adversary.tasks.rte.bregman.mu=2")
    assert options_of(config.adversary, "rte").model_dump()["bregman"]["mu"] == 2
    assert options_of(config.adversary, "mnli").model_dump()["bregman"] is None


def test_a_task_preset_replaces_the_task_s_settings(tmp_path: Path) -> None:
    yaml = "adversary: {mode: vat, tasks: {rte: {weight: 3}}}\n"
    config = load(tmp_path, "adversary.tasks.rte=preset:vat/mtdnn", yaml=yaml)
    assert options_of(config.adversary, "rte").model_dump()["weight"] == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("adversary=preset:tat/mtdn", "override 'adversary=preset:tat/mtdn': adversary: no preset 'tat/mtdn', did you"),
        (
            "adversary=preset:rapt/embedding",
            "adversary: preset 'rapt/embedding' is now called rapt/words; the settings",
        ),
        ("adversary={mode: rapt, level: embeddings}", "level has no effect with 'max_layer: 3'; leave it out"),
        ("adversary={mode: vat, level: 0}", "adversary.level: Input should be 'words' or 'embeddings'"),
        ("adversary={mode: freelb, radius: 0}", "adversary.radius: a bound has to be above 0; write null for no bound"),
        ("adversary={mode: pgd, radius: -1}", "adversary.radius: a bound has to be above 0; write null for no bound"),
        ("adversary={mode: tat, radius: 0}", "adversary.radius: a bound has to be above 0; write null for no bound"),
        (
            "adversary={mode: freeat, tasks: {rte: {radius: 0}}}",
            "adversary.tasks.rte.radius: a bound has to be above 0; write null for no bound",
        ),
        ("adversary={mode: vat, projection: normalize, radius: null}", "largest entry of a token; write a number"),
        ("adversary=tta", "adversary.mode: no mode 'tta', did you mean"),
        ("adversary={weight: 2}", "missing key 'adversary.mode', one of none, vat"),
        ("adversary.mod=tat", "override 'adversary.mod': unknown key 'adversary.mod', did you mean 'adversary.mode'?"),
        ("adversary={mode: vat, wieght: 2}", "unknown key 'adversary.wieght', did you mean 'adversary.weight'?"),
        ("adversary={mode: vat, passes: 2}", "unknown key 'adversary.passes'"),
        ("adversary={mode: vat, steps: 0}", "adversary.steps: Input should be greater than 0 (got 0)"),
        (
            "adversary={mode: vat, gradient_norm: '2'}",
            "gradient_norm has no effect with 'normalize_gradient: none'; leave it out",
        ),
        ("adversary={mode: vat, bregman: {bet: 1}}", "unknown key 'adversary.bregman.bet', did you mean"),
        ("adversary={mode: vat, tasks: {rte: {radus: 1}}}", "adversary.tasks.rte.radus: no such setting of vat, did"),
        ("adversary={mode: vat, tasks: {rte: {mode: tta}}}", "adversary.tasks.rte.mode: no mode 'tta', did you"),
        ("adversary={mode: vat, tasks: {rte: 3}}", "adversary.tasks.rte: write a mapping of keys to values"),
        ("adversary={mode: vat, tasks: {rte: 'preset:x'}}", "adversary.tasks.rte: no preset 'x'"),
    ],
)
def test_refused(override: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, override)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ("adversary.mode=pgd", "adversary.preset=freelb/roberta_large/rte/paper"),
        ("adversary={mode: vat}", "adversary.preset=vat/paper"),
        ("adversary.tasks.rte.weight=2", "adversary.tasks.rte.preset=vat/paper"),
        ("adversary.tasks.rte.weight=2", "adversary.preset=vat/paper"),
    ],
)
def test_a_preset_does_not_replace_what_an_override_before_it_has_set(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, *overrides)
    assert str(error.value) == (
        f"override '{overrides[0]}': the preset of override '{overrides[1]}' replaces it; give the preset first"
    )


def test_a_later_preset_replaces_an_earlier_one(tmp_path: Path) -> None:
    for before in ("adversary=preset:vat/paper", "adversary.mode=pgd"):
        assert load(tmp_path, before, "adversary=preset:tat/paper").adversary.mode == "tat"
    options = ("adversary=preset:vat/paper", "adversary.weight=2", "adversary.tasks.rte=preset:tat/paper")
    assert load(tmp_path, *options).adversary.model_dump()["weight"] == 2
