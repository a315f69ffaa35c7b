"""``extends`` in run files: what is merged, where it is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_utils.errors import UserError
from mt_dnn.runs.config_file import load_config
from tests import ROOT
from tests.study_files import grid_of

BASE = """
task_defs: tasks.yml
tasks: [a, b]
output: runs/${name}-${seed}
data: {dir: rows, max_length: 64}
encoder: {name: base}
adversary: {mode: vat, radius: 0.5, tasks: {a: {mode: none}}}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yml"
    path.write_text(BASE)
    return path


def extending(base: Path, text: str, name: str = "mine.yml") -> Path:
    path = base.with_name(name)
    path.write_text(f"extends: {base.name}\n{text}\n")
    return path


def test_keys_of_sections_are_merged_and_lists_are_replaced(base: Path) -> None:
    mine = extending(base, "tasks: [c]\nseed: 4\ndata: {max_length: 32}\ntrain: {clip_norm: null}")
    found = load_config(mine, ["data.stride=7"])
    assert (found.tasks, found.seed, found.name, found.output) == (("c",), 4, "mine", Path("runs/mine-4"))
    assert (found.data.dir, found.data.max_length, found.data.stride) == (Path("rows"), 32, 7)
    assert found.train.clip_norm is None and found.encoder.name == "base" and found.adversary.mode == "vat"


def test_an_extending_file_is_the_run_that_is_written_out(base: Path) -> None:
    text = BASE.replace("max_length: 64", "max_length: 32") + "optimizer: {lr: 0.1}\n"
    written = base.with_name("mine.yml")
    written.write_text(text)
    expected = load_config(written)
    assert load_config(extending(base, "data: {max_length: 32}\noptimizer: {lr: 0.1}")) == expected


def test_a_preset_replaces_the_adversary_below_and_keys_change_it(base: Path) -> None:
    preset = load_config(extending(base, "adversary: preset:tat/paper")).adversary
    assert preset.mode == "tat" and preset.tasks == {}
    more = extending(base.with_name("mine.yml"), "adversary: {level: embeddings}", "more.yml")
    changed = load_config(more).adversary
    assert changed == preset.model_copy(update={"level": "embeddings"})


def test_a_study_starts_from_an_extending_file_and_a_seed_below_is_seen(workspace: Path) -> None:
    run = workspace / "run.yml"
    below = OmegaConf.merge(OmegaConf.load(run), {"optimizer": {"lr": "0.00${seed}"}})
    OmegaConf.save(below, workspace / "below.yml")
    axes = {"task": ["negated"]}
    run.write_text("extends: below.yml\ntrain: {batch_size: 5}\n")
    grid = grid_of(workspace, axes=axes)
    runs = [grid.run(grid.cells[0], seed).given for seed in (1, 2)]
    assert [(run.optimizer.lr, run.train.batch_size) for run in runs] == [(0.001, 5), (0.002, 5)]


def test_errors_name_the_file_that_has_the_key(base: Path) -> None:
    mine = extending(base, "optimizer: {lrr: 1}")
    for text, location in (("optimizer: {lrr: 1}", mine), ("seed: 1", base)):
        base.write_text(BASE + ("" if location == mine else "optimizer: {lrr: 1}\n"))
        with pytest.raises(UserError) as caught:
            load_config(extending(base, text))
        assert str(caught.value) == f"{location}: unknown key 'optimizer.lrr', did you mean 'optimizer.lr'?"
    with pytest.raises(UserError, match=r"mine.yml: extends: .*none.yml: no such file"):
        load_config(extending(base.with_name("none.yml"), ""))
    mine.write_text("extends: mine.yml\n")
    with pytest.raises(UserError, match=r"mine.yml extends .*mine.yml, in a circle"):
        load_config(mine)


def test_an_override_extends_nothing(base: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_config(base, ["extends=other.yml"])
    expected = "override 'extends=other.yml': only a run file can extend another one; write this key into the file"
    assert str(caught.value) == expected


def test_a_dictionary_may_extend_a_file_of_the_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_config({"extends": "experiments/glue/run.yml", "name": "mine", "seed": 2})
    assert found == load_config(ROOT / "experiments" / "glue" / "run.yml", ["name=mine", "seed=2"])
    assert load_config("experiments/glue/run.yml") == load_config(ROOT / "experiments" / "glue" / "run.yml")
