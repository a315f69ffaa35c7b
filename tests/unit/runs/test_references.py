"""References in a run file cannot eat all memory; those that people write are left alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from data_utils.errors import UserError
from mt_dnn.runs import references
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.references import check_references, filled

TEXTS = {"k0": "text", **{f"k{n}": f"${{k{n - 1}}}${{k{n - 1}}}" for n in range(1, 40)}}
RELATIVE = {"a": {"k0": "text", **{f"k{n}": f"${{.k{n - 1}}}${{..a.k{n - 1}}}" for n in range(1, 40)}}}
MAPPINGS = {"k0": {"x": 1}, **{f"k{n}": {"x": f"${{k{n - 1}}}", "y": f"${{k{n - 1}}}"} for n in range(1, 40)}}
SPACED = {"k0": "text", **{f"k{n}": f"${{ k{n - 1} }}${{\tk{n - 1}}}" for n in range(1, 40)}}
SELECTED = {"k0": "text", **{f"k{n}": f"${{oc.select:k{n - 1}}}${{ oc.select : k{n - 1} , x}}" for n in range(1, 40)}}
DEFAULTS = {
    "k0": "text",
    **{f"k{n}": f"${{oc.env:NONE,${{k{n - 1}}}}}${{oc.select:z,${{k{n - 1}}}}}" for n in range(1, 40)},
}
DOLLARS = {"k$0": "text", **{f"k${n}": f"${{k${n - 1}}}${{k${n - 1}}}" for n in range(1, 40)}}
LISTS = {"k0": [1, 2], **{f"k{n}": [f"${{k{n - 1}}}", f"${{k{n - 1}[0]}}", f"${{k{n - 1}}}"] for n in range(1, 40)}}


@pytest.mark.parametrize("values", [TEXTS, RELATIVE, MAPPINGS, SPACED, SELECTED, DEFAULTS, DOLLARS, LISTS])
def test_references_that_double_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^run\.yml: \S*k\$?\d+\S*: grows too large when its \$\{…\} are filled in"):
        check_references(values, "run.yml")


@pytest.mark.parametrize(
    "values",
    [
        dict(list(TEXTS.items())[:12]),
        {"a": dict(list(RELATIVE["a"].items())[:8])},
        dict(list(MAPPINGS.items())[:8]),
        {"name": "n", "output": "runs/${name}-${oc.env:NOTHING,seed}", "long": "x" * 200_000},
        {"name": "n", "a": "${ name }-${oc.select: name ,${name}}", "b": "${oc.select:none,n}", "c": ["${..name}"]},
        {"name": "n", "a": "${oc.env:NOTHING,${oc.env:NOTHING,${name}}}", "b": "${oc.decode:${oc.env:NUMBER}}"},
    ],
)
def test_what_grows_little_is_filled_in(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBER", "7")
    assert filled(values, "run.yml") == OmegaConf.to_container(OmegaConf.create(values), resolve=True)


@pytest.mark.parametrize(
    "text",
    [
        "${${n}}",
        "${a.${n}}",
        "${oc.select:${n}}",
        "${oc.select:'n'}",
        "${oc.create:${n}}",
        "${oc.decode:${n}}",
        "${oc.decode:${oc.env:NOTHING,'\\${n}\\${n}'}}",
        "${oc.dict.values:n}",
        "${oc.env:NOTHING,{a:${n}}}",
        "${" * 100_000 + "}" * 100_000,
    ],
)
def test_what_cannot_be_foreseen_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^run\.yml: a\.0: '.*' has a \$\{…\} that is not supported; write \$\{key\}"):
        filled({"n": "a", "a": [text]}, "run.yml")


def test_the_size_is_that_of_the_text_that_omegaconf_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference may add up to as many characters as the limit says: the text, and those of ``${…}`` on the way."""
    values = dict(list(TEXTS.items())[:12])
    made = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    assert isinstance(made, dict)
    filled = sum(map(len, made.values()))
    monkeypatch.setattr(references, "LARGEST", filled - 100)
    with pytest.raises(UserError):
        check_references(values, "run.yml")
    monkeypatch.setattr(references, "LARGEST", 4 * filled)
    check_references(values, "run.yml")


@pytest.mark.parametrize("text", ["a: ${b}\nb: ${a}\n", "a: ${a}\n", "a: {b: '${a}'}\n"])
def test_a_circle_is_one_message(text: str, workspace: Path) -> None:
    file = workspace / "circle.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{file}: ")):
        load_config(file)


def test_a_long_chain_is_one_message(workspace: Path) -> None:
    file = workspace / "chain.yml"
    chain = "".join(f"k{n}: ${{k{n - 1}}}\n" for n in range(3000, 0, -1))
    file.write_text(f"{chain}k0: text\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{file}: too many ${{…}} lead from one to the next")):
        load_config(file)


def test_a_run_file_that_doubles_is_one_message(workspace: Path) -> None:
    file = workspace / "bomb.yml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in TEXTS.items()), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{file}: k13: grows too large")):
        load_config(file)
