"""Run configurations: defaults, overrides, located errors, and no field that nothing reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data_utils.errors import UserError
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.none import NoneOptions
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import _resolved, differences, dump_config, load_config
from tests import ROOT

MINIMAL = "task_defs: tasks.yml\noutput: runs/${name}-${seed}\ndata: {dir: d}\nencoder: {name: bert-base-uncased}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "mine.yml").write_text(MINIMAL)
    return tmp_path / "mine.yml"


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    ["${name}", "${seed}", "a${seed}b${name}", "$x", "${data.dir}", "${seed}-${data.dir}", "\\${name}", "a\\b", "???"],
)
def test_values_are_filled_in_as_omegaconf_does(text: str) -> None:
    """The fast way for names and seeds gives what OmegaConf gives for every value."""
    merged = {"name": "n", "seed": 3, "data": {"dir": "d", "cache": [text, {"x": text}]}, "output": text}
    expected = OmegaConf.to_container(OmegaConf.create(merged), resolve=True)
    assert _resolved(merged, Path("run.yml")) == expected


def test_overrides_defaults_and_interpolation(path: Path, tmp_path: Path) -> None:
    config = load_config(path, ["optimizer.lr=1e-4", "seed=3", "tasks=[rte,mrpc]", "sampling.strategy=uniform"])
    assert (config.name, config.seed, config.optimizer.lr, config.tasks) == ("mine", 3, 1e-4, ("rte", "mrpc"))
    assert config.output == Path("runs/mine-3") and config.data.cache_dir == Path("d/prepared")
    assert config.optimizer.name == "adamax" and config.optimizer.lookahead.enabled
    dump_config(config, tmp_path / "dumped.yml")
    assert load_config(tmp_path / "dumped.yml") == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimzer.lr=1", "override 'optimzer.lr': unknown key 'optimzer', did you mean 'optimizer'?"),
        ("optimizer.lrr=1", "override 'optimizer.lrr': unknown key 'optimizer.lrr', did you mean 'optimizer.lr'?"),
        ("optimizer.lr=-1", "optimizer.lr: Input should be greater than 0 (got -1)"),
        ("seed", "override 'seed': write key=value"),
        ("train.precision=fp8", "train.precision: Input should be 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ("adversary.mode=tta", "override 'adversary.mode': adversary.mode: no mode 'tta', did you mean 'tat'?"),
        ("sampling.size_cap=5", "sampling: size_cap has no effect with 'proportional'; leave it out"),
        ("optimizer.momentum=0.9", "optimizer: momentum has no effect with 'adamax'; leave it out"),
        ("schedule.power=2", "schedule: power has no effect with 'linear'; leave it out"),
        ("train.balance_lr=0.1", "train: balance_lr has no effect with 'none'; leave it out"),
        ("encoder.config={model_type: bert}", "encoder: give exactly one of name and config"),
        ("tasks={a: 1}", "tasks: Input should be a list"),
    ],
)
def test_refused_overrides(path: Path, override: str, words: str) -> None:
    assert words in refused(path, override)


def test_refused_files(tmp_path: Path) -> None:
    assert "no such run file" in refused(tmp_path / "none.yml")
    for name, text, words in (
        ("list.yml", "- a\n", "mapping"),
        ("broken.yml", "a: [1\n", "not readable as YAML"),
        ("twice.yml", MINIMAL + "data: {dir: e}\n", "twice.yml:5: not readable as YAML: found duplicate key data"),
        ("half.yml", "task_defs: t.yml\ndata: {dir: d}\n", "half.yml: missing key 'encoder'"),
        ("loop.yml", MINIMAL + "device: ${nothing}\n", "nothing"),
    ):
        (tmp_path / name).write_text(text)
        assert words in refused(tmp_path / name)


def test_differences_are_named_by_dotted_key() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "e": 4}
    assert list(differences(old, new)) == [
        "a.c: 2 there, 5 here",
        "d: 3 there, None here",
        "e: None there, 4 here",
    ]


def is_class(annotation: Any) -> TypeGuard[type[Any]]:
    """Whether an annotation is a class. In Python 3.10 ``dict[str, float]`` counts as a type, but it is none."""
    return isinstance(annotation, type) and get_origin(annotation) is None


def fields(model: type[BaseModel]) -> set[str]:
    """Names of all settings, those of nested groups included."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if is_class(field.annotation) and issubclass(field.annotation, BaseModel):
            names |= fields(field.annotation)
    return names | {name for mode in ADVERSARIES.values() for name in mode.options_type.model_fields}


def test_every_field_is_read_somewhere() -> None:
    sources = [*(ROOT / "mt_dnn").rglob("*.py"), *(ROOT / "data_utils").glob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources if path.name != "config.py")
    unread = {name for name in fields(RunConfig) if not re.search(rf"\.{name}\b", code)}
    assert unread - {"cache"} == set()  # read in config.py, by cache_dir


def rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    """One row of the documented table per setting."""
    found = []
    for name, field in model.model_fields.items():
        parts: list[Any] = [field.annotation, *get_args(field.annotation)]
        section = next((part for part in parts if is_section(part)), None)
        deeper = section if name != "adversary" else None  # one page per mode has its settings
        if (deeper is None or bool in parts) and (name != "mode" or prefix):
            choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
            listed = ", ".join(f"`{choice}`" for choice in choices)
            meaning = f"{listed}: {field.description}" if listed else field.description
            found.append(f"| `{prefix}{name}` | {default(field)} | {meaning} |")
        if deeper is not None:
            found += rows(deeper, f"{prefix}{name}.")
    return found


def is_section(annotation: Any) -> bool:
    return is_class(annotation) and issubclass(annotation, BaseModel)


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, NoneOptions):
        return "`none`"
    if value is None or value in ((), {}, Path("runs/run-seed1")):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_documented_keys_are_those_of_the_code() -> None:
    """To renew the table: print what this test compares."""
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    table = text.split("## Keys of a run file\n")[1].strip().splitlines()
    assert table == ["| key | default | |", "|---|---|---|", *rows(RunConfig)]
    assert not any("None |" in row for row in rows(RunConfig))  # every setting has a description


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("train.lr=1e-4", "optimizer.lr"),
        ("optimizer.learning_rate=1e-4", "optimizer.lr"),
        ("learning_rate=1e-4", "optimizer.lr"),
        ("train.num_train_epochs=3", "train.epochs"),
        ("optimizer.warmup_fraction=0.1", "schedule.warmup_fraction"),
        ("train.epoch=3", "train.epochs"),
        ("epochs=3", "train.epochs"),
    ],
)
def test_a_setting_in_the_wrong_section_or_with_a_name_of_the_trainer_is_found(override: str, meant: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"override '{key}': unknown key '{key}', did you mean '{meant}'\?"):
        load_config(ROOT / "experiments" / "glue" / "run.yml", [override])


def test_one_task_needs_no_brackets() -> None:
    assert load_config(ROOT / "experiments" / "glue" / "run.yml", ["tasks=rte"]).tasks == ("rte",)
