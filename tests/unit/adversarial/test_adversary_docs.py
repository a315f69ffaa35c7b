"""The pages of the adversarial modes say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mt_dnn.adversarial.base import Options
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.presets import FOLDER, expanded, preset_names
from tests import ROOT
from tests.unit.runs.test_config import rows

PAGES = ROOT / "docs" / "modes"
SECTIONS = [
    "Example",
    "Picture",
    "Formula",
    "Options",
    "Presets",
    "Radius and step size",
    "Cost",
    "When to use it",
    "What the papers leave open",
]


def option_rows(mode: str) -> list[str]:
    """One row per option that is the mode's own."""
    shared = {f"| `{name}` |" for name in Options.model_fields}
    return [row for row in rows(ADVERSARIES[mode].options_type) if not row.startswith(tuple(shared))]


def preset_rows(mode: str) -> list[str]:
    """One line per preset: its name and what it changes."""
    lines = []
    for name in preset_names():
        settings = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
        if settings.pop("mode") == mode:
            chosen = ADVERSARIES[mode].options_type.model_validate(settings)
            changed = {key: value for key, value in settings.items() if key in chosen.model_fields_set}
            default = chosen == ADVERSARIES[mode].options_type.model_validate({"mode": mode})
            told = "the default settings" if default else ", ".join(f"{key} {value}" for key, value in changed.items())
            lines.append(f"- `{name}`: {told}")
    return lines


@pytest.mark.parametrize("mode", ADVERSARIES)
def test_each_mode_has_a_page_that_says_what_the_code_says(mode: str) -> None:
    text = (PAGES / f"{mode}.md").read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert [line for line in parts["Options"].splitlines() if line.startswith("| `")] == option_rows(mode)
    presets = parts["Presets"].replace("\n  ", " ")  # an item may be wrapped
    assert [line for line in presets.splitlines() if line.startswith("- ")] == preset_rows(mode)
    assert all(len(parts[section].strip()) > 4 for section in SECTIONS)


def test_every_page_belongs_to_a_mode_and_the_overview_links_all() -> None:
    pages = {path.stem for path in PAGES.glob("*.md")} - {"index"}
    assert pages == set(ADVERSARIES)
    overview = (PAGES / "index.md").read_text(encoding="utf-8")
    assert all(f"[{mode}]({mode}.md)" in overview for mode in ADVERSARIES)
    shared = [row for row in rows(Options) if not row.startswith("| `mode`")]
    assert all(row in overview for row in shared)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_examples_of_a_page_are_settings_of_its_mode(page: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    assert examples
    for example in examples:
        settings = expanded(yaml.safe_load(example)["adversary"], page.name)
        options = ADVERSARIES[settings["mode"]].options_type.model_validate(settings)
        assert page.stem in ("index", options.mode)


@pytest.mark.parametrize("name", preset_names())
def test_presets_name_their_source(name: str) -> None:
    first = (FOLDER / f"{name}.yml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 30
