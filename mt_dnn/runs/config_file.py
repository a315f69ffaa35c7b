"""Reads and writes run files: YAML and ``key=value`` overrides, merged by OmegaConf and checked by pydantic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

try:
    from yaml import CSafeDumper as SafeDumper  # ten times as fast as its twin in Python
except ImportError:
    from yaml import SafeDumper  # type: ignore[assignment]

from data_utils.errors import UserError, did_you_mean, os_errors, shortened, shown, unknown_key
from data_utils.extends import KEY, Layer, layers, merged
from data_utils.files import replacing
from data_utils.shipped import find
from data_utils.yaml_files import DEPTH, is_text, parse_yaml, read_yaml_file
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.presets import expanded, names_preset
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.references import filled

NAMED = re.compile(r"\$\{(name|seed)\}")
# What transformers' TrainingArguments call some of the settings.
TRAINER_NAMES = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulate",
    "max_grad_norm": "clip_norm",
    "warmup_ratio": "warmup_fraction",
    "max_seq_length": "max_length",
    "output_dir": "output",
}


def load_config(config: Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file, or takes its content, and applies overrides such as ``optimizer.lr=1e-4``.

    A run file may extend another one, see ``data_utils.extends``. A path that begins with ``experiments/`` is looked
    for among the files of the toolkit if it does not exist.

    Raises:
        UserError: the file cannot be read, a key is unknown, or a value has the wrong type. The message names the file
            or the override, and the key.
    """
    path = Path("run configuration") if isinstance(config, Mapping) else find(config)
    files = layers(path, _of_mapping(config), _read_yaml) if isinstance(config, Mapping) else read_layers(path)
    defaults = {
        "name": RunConfig.model_fields["name"].default if isinstance(config, Mapping) else path.stem,
        "seed": RunConfig.model_fields["seed"].default,
        "output": "runs/${name}-seed${seed}",
    }  # given here already, so that the values of a run file may contain ${name} and ${seed}
    given = [(f"override '{shortened(text)}'", _override(text)) for text in overrides]
    _check_presets_come_first(given)
    try:
        unresolved: dict[str, Any] = defaults
        for location, layer in [*((str(file), content) for file, content in files), *given]:
            unresolved = _with_layer(unresolved, layer, location)
        values = _resolved(unresolved, path)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_first_line(error)}") from None
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise _located(files, error, {text.split("=", 1)[0] for text in overrides}) from None


def dump_config(config: RunConfig, path: Path) -> None:
    """Writes a configuration with all its defaults as YAML, which ``load_config`` reads back."""
    with replacing(path) as temporary:
        text = yaml.dump(config.model_dump(mode="json"), Dumper=SafeDumper, sort_keys=False)
        temporary.write_text(text, encoding="utf-8")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields one text per key with different values: ``<key>: <old> there, <new> here``. Dots join nested keys."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: {shown(before)} there, {shown(after)} here"


def read_layers(path: Path) -> list[Layer]:
    """Reads a run file and the files that it extends, the lowest first: the path and content of each.

    Raises:
        UserError: a file cannot be read, or extends itself.
    """
    path = find(path)
    return layers(path, _read_yaml(path), _read_yaml)


def _read_yaml(path: Path) -> dict[str, Any]:
    with os_errors(path, "cannot be read"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise UserError(f"{path}: no such run file") from None
    return _content(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _content(path: Path, size: int, changed: int) -> dict[str, Any]:
    """What a run file says. It is read again when the file has changed. It is not to be changed."""
    content = read_yaml_file(path, parse_omegaconf, "run file")
    if not isinstance(content, dict):
        raise UserError(f"{path}: a run file is a mapping of keys to values, such as 'task_defs: task_defs/glue.yml'")
    return content


def parse_omegaconf(text: str) -> Any:
    """Plain values of YAML as OmegaConf reads it: ``5e-5`` is a number, and ``${…}`` is still text."""
    return OmegaConf.to_container(OmegaConf.load(StringIO(text)), resolve=False)


def _of_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _unresolved(OmegaConf.create(dict(values)))
    except RecursionError:
        raise UserError("run configuration: is nested too deeply") from None
    except OmegaConfBaseException as error:
        raise UserError(f"run configuration: {_first_line(error)}") from None


@lru_cache(maxsize=4096)  # the runs of a study have most of them in common
def _override(text: str) -> dict[str, Any]:
    """The content of an override. It is not to be changed."""
    key, separator, value = text.partition("=")
    location = f"override '{shortened(text)}'"
    if not separator or not key:
        raise UserError(f"{location}: write key=value, for example optimizer.lr=1e-4")
    if key == KEY:
        raise UserError(f"{location}: only a run file can extend another one; write this key into the file")
    if key.count(".") + key.count("[") > DEPTH or not is_text(key):
        raise UserError(f"{location}: no key of a run file; see mt-dnn config")
    return parse_yaml(value, location, lambda _: _unresolved(OmegaConf.from_dotlist([text])))


def _resolved(values: dict[str, Any], location: Path) -> Any:
    """The values without ``${…}``. Where ``${name}`` and ``${seed}`` are the only ones, this is fast."""
    named = {key: values[key] for key in ("name", "seed")}
    if isinstance(named["name"], str) and "$" not in f"{named}":
        try:
            return _filled(values, named)
        except LookupError:  # another key, or what OmegaConf reads otherwise
            pass
    return filled(values, location)


def _filled(value: Any, named: Mapping[str, Any]) -> Any:
    """The value with keys of ``named`` filled in. Raises LookupError for any other ``${…}``."""
    if isinstance(value, Mapping):
        return {key: _filled(below, named) for key, below in value.items()}
    if isinstance(value, list):
        return [_filled(item, named) for item in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    alone = NAMED.fullmatch(value)
    if alone is not None:
        return named[alone[1]]
    text = NAMED.sub(lambda found: str(named[found[1]]), value)
    if "$" in text or "\\" in text:
        raise LookupError(text)
    return text


def _unresolved(content: Any) -> dict[str, Any]:
    """Plain dictionaries and lists, in which ``${name}`` is still text."""
    return OmegaConf.to_container(content)  # type: ignore[return-value]


def _with_layer(below: Mapping[str, Any], layer: Mapping[str, Any], location: str) -> dict[str, Any]:
    """Merges a layer into the layers below it.

    A preset replaces all settings of the adversary, or of one task. It is not mixed with lower layers.
    """
    if "adversary" not in layer:
        return merged(below, layer)
    section = layer["adversary"]
    kept = dict(below)
    if names_preset(section):
        kept.pop("adversary", None)
    elif (
        isinstance(section, dict) and isinstance(section.get("tasks"), dict) and isinstance(kept.get("adversary"), dict)
    ):
        replaced = {task for task, options in section["tasks"].items() if names_preset(options)}
        tasks = kept["adversary"].get("tasks", {})
        if replaced and isinstance(tasks, dict):
            kept["adversary"] = {**kept["adversary"], "tasks": {t: o for t, o in tasks.items() if t not in replaced}}
    return merged(kept, {**layer, "adversary": expanded(section, f"{location}: adversary")})


def _check_presets_come_first(overrides: Sequence[tuple[str, Any]]) -> None:
    """Raises UserError if a later ``adversary.preset=…`` would replace what an override has set.

    ``adversary=preset:…`` may come later, because it visibly replaces the section.
    ``overrides``: where each stands, and its content.
    """
    set_by: dict[str | None, str] = {}  # the adversary (None) or a task of it → an override that has set a key there
    for location, layer in overrides:
        section = layer.get("adversary")
        tasks = section.get("tasks") if isinstance(section, dict) else None
        scopes = tasks if isinstance(tasks, dict) else {} if section is None else {None: section}
        for scope, options in scopes.items():
            earlier = [text for known, text in set_by.items() if scope in (None, known)]
            if isinstance(options, dict) and names_preset(options) and earlier:
                raise UserError(f"{earlier[0]}: the preset of {location} replaces it; give the preset first")
            if not names_preset(options):
                set_by[scope] = location


def _first_line(error: Exception) -> str:
    return shortened(" ".join(str(error).split("\n")[:2]).strip())


def _located(files: Sequence[Layer], error: ValidationError, overridden: set[str]) -> UserError:
    """Makes an error of the first problem that pydantic found: file or override, key, and what to do."""
    problem = error.errors()[0]
    keys = [str(key) for key in problem["loc"]]
    path = files[-1][0]
    if not keys:  # a check across sections; its message names the key
        return UserError(f"{path}: {problem['msg'].removeprefix('Value error, ')}")
    mode = keys.pop(1) if keys[0] == "adversary" and len(keys) > 1 else None
    if problem["type"].startswith("union_tag"):
        keys.append("mode")
    dotted = ".".join(keys)
    typed = next((key for key in overridden if key == dotted or key.startswith(f"{dotted}.")), None)
    path = next((file for file, content in reversed(files) if _has(content, keys)), path)
    location = f"override '{shortened(typed)}'" if typed else str(path)
    if problem["type"] == "extra_forbidden":
        section = [".".join([*keys[:-1], name]) for name in _fields(keys[:-1], mode)]
        elsewhere = _elsewhere(keys, section)
        if elsewhere is not None:
            return UserError(f"{location}: unknown key '{dotted}', did you mean '{elsewhere}'?")
        return unknown_key(location, dotted, section)
    if problem["type"] == "missing":
        return UserError(f"{location}: missing key '{dotted}'")
    if problem["type"] == "union_tag_not_found":
        if wrong := next((f"adversary.{name}" for name in problem["input"] if did_you_mean(f"{name}", ["mode"])), None):
            at = f"override '{wrong}'" if wrong in overridden else location
            return UserError(f"{at}: unknown key '{wrong}', did you mean 'adversary.mode'?")
        return UserError(f"{location}: missing key 'adversary.mode', one of {', '.join(ADVERSARIES)}")
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        hint = did_you_mean(tag, ADVERSARIES) or f" (known: {', '.join(ADVERSARIES)})"
        return UserError(f"{location}: adversary.mode: no mode '{tag}'{hint}")
    given = f" (got {shown(problem['input'])})" if not isinstance(problem["input"], dict) else ""
    message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    return UserError(f"{location}: {dotted}: {message}{given}")


def _has(content: Any, keys: Sequence[str]) -> bool:
    """Whether the content of a file has the key that these keys lead to."""
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _elsewhere(keys: Sequence[str], section: Sequence[str]) -> str | None:
    """A key that an unknown one may mean: a setting with its name, or of its meaning in transformers' Trainer.

    None if there is none. ``section``: the keys of the section that the unknown one stands in, which come first.
    """
    name = TRAINER_NAMES.get(keys[-1], keys[-1])
    named = [key for key in _all_keys(RunConfig) if key.rpartition(".")[2] == name]
    return next((key for key in named if key in section), named[0] if named else None)


def _all_keys(model: Any, prefix: str = "") -> Iterator[str]:
    """All keys of a run file, with dots. Settings of the adversary, which depend on its mode, are left out."""
    for name, field in model.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if hasattr(part, "model_fields")]
        if not parts:
            yield f"{prefix}{name}"
        elif name != "adversary":
            yield from _all_keys(parts[0], f"{prefix}{name}.")


def _fields(keys: Sequence[str], mode: str | None) -> Sequence[str]:
    """The keys that the section under ``keys`` may have. ``mode``: the adversary's mode, if the file names one."""
    model: Any = RunConfig
    for key in keys:
        annotation: Any = model.model_fields[key].annotation
        sections = [part for part in get_args(annotation) if hasattr(part, "model_fields")]  # of an optional section
        model = ADVERSARIES[mode].options_type if key == "adversary" and mode else (sections or [annotation])[0]
    return list(model.model_fields)
