"""The trials of the evidence: drawn as the plan says, equal for every mode."""

from __future__ import annotations

import pytest
import yaml

from experiments.evidence import trials
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.layout import layout
from mt_dnn.studies.study import load_study
from tests import ROOT

STUDY = ROOT / "experiments" / "evidence" / "core.yml"


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_study_is_what_the_script_draws() -> None:
    assert yaml.safe_load(STUDY.read_text(encoding="utf-8")) == trials.study()


@pytest.mark.parametrize("task", trials.TASKS)
def test_every_mode_has_the_same_number_of_trials_and_the_same_learning_rates(task: str) -> None:
    grid = Grid(load_study(STUDY, task))
    by_method: dict[str, list[float]] = {}
    for run in grid.deciding():
        assert run.given.data.held_out is None and run.given.data.carve == 0.5 and run.seed == 1
        by_method.setdefault(run.cell.labels["method"], []).append(run.given.optimizer.lr)
    for method, rates in by_method.items():
        fixed = trials.choices(method) == [{}]
        assert sorted(rates) == sorted(trials.LEARNING_RATES * (1 if fixed else 2)), method
    assert by_method.keys() == trials.METHODS.keys() and "none" in by_method


def test_trials_of_a_mode_differ_and_seeds_are_fresh() -> None:
    grid = Grid(load_study(STUDY, "sst2"))
    deciding = grid.deciding()
    assert len({run.settings_id for run in deciding}) == len(deciding)
    select = grid.study.select
    assert select is not None and not set(select.seeds) & set(grid.study.seed_list) and len(grid.study.seed_list) == 8
    reported = [grid.run(run.cell, 11) for run in deciding]
    assert {run.given.data.held_out for run in reported} == {2000}
    assert {run.given.adversary.mode for run in reported} <= ADVERSARIES.keys()


def test_strength_is_the_only_difference_between_vat_and_its_trials() -> None:
    ratios = {
        round(settings["adversary.radius"] / trials.PER_RATIO["vat"]["adversary.radius"], 3)
        for settings in trials.choices("vat")
    }
    assert ratios == set(trials.STRENGTHS)


def test_the_table_tests_what_is_held_out_and_shows_dev_beside_it() -> None:
    columns = [column.name for column in layout(Grid(load_study(STUDY))).columns]
    assert columns == ["sst2 held_out accuracy", "sst2 dev accuracy", "cola held_out mcc", "cola dev mcc"]
    study = load_study(STUDY, "sst2")
    assert study.show.tested == "held_out" and len(layout(Grid(study)).columns) == 2
