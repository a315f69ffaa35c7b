"""Run files: YAML plus ``key=value`` overrides, merged by OmegaConf, validated by pydantic, errors on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from data_utils.errors import UserError, not_yaml, unknown_key
from mt_dnn.config import RunConfig


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Run YAML with dotted overrides such as ``optimizer.lr=1e-4``.

    Raises:
        UserError: unreadable file, unknown key, or a value of the wrong kind, naming file (or override) and key.
    """
    path = Path(path)
    defaults = {
        "name": path.stem,
        "seed": RunConfig.model_fields["seed"].default,
        "output": "runs/${name}-seed${seed}",
    }  # so that ${name} and ${seed} resolve
    merged = OmegaConf.merge(defaults, _read_yaml(path), *(_override(text) for text in overrides))
    try:
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_first_line(error)}") from None
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise _located(path, error, {text.split("=", 1)[0] for text in overrides}) from None


def dump_config(config: RunConfig, path: Path) -> None:
    """Writes the whole configuration, defaults included, as YAML that ``load_config`` reads back."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys whose values differ, as ``key: old there, new here``."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: {before!r} there, {after!r} here"


def _read_yaml(path: Path) -> Any:
    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such run configuration") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise not_yaml(path, error) from None
    if not OmegaConf.is_dict(content):
        raise UserError(f"{path}: a run configuration is a mapping of keys to values")
    return content


def _override(text: str) -> Any:
    key, separator, _ = text.partition("=")
    if not separator or not key:
        raise UserError(f"override '{text}': write key=value, for example optimizer.lr=1e-4")
    try:
        return OmegaConf.from_dotlist([text])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"override '{text}': {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[:2]).strip()


def _located(path: Path, error: ValidationError, overridden: set[str]) -> UserError:
    """One line for the first problem: place, key, remedy."""
    problem = error.errors()[0]
    keys = [str(key) for key in problem["loc"]]
    dotted = ".".join(keys)
    typed = next((key for key in overridden if key == dotted or key.startswith(f"{dotted}.")), None)
    place = f"override '{typed}'" if typed else str(path)
    if problem["type"] == "extra_forbidden":
        return unknown_key(place, dotted, [".".join([*keys[:-1], name]) for name in _fields(keys[:-1])])
    if problem["type"] == "missing":
        return UserError(f"{place}: missing key '{dotted}'")
    given = f" (got {problem['input']!r})" if not isinstance(problem["input"], dict) else ""
    return UserError(f"{place}: {dotted}: {problem['msg'].removeprefix('Value error, ')}{given}")


def _fields(keys: Sequence[str]) -> Sequence[str]:
    model: Any = RunConfig
    for key in keys:
        model = model.model_fields[key].annotation
    return list(model.model_fields)
