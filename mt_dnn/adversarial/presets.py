"""Named settings of adversaries, as ``adversary: preset:tat/paper``: YAML files in the folder presets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_utils.errors import UserError, did_you_mean, not_yaml

PREFIX = "preset:"
FOLDER = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """All presets, such as ``freelb/roberta_large/rte``."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yml"))


def read_preset(name: str, location: str) -> dict[str, Any]:
    """The settings of a preset by name.

    Raises:
        UserError: there is none of this name.
    """
    known = preset_names()
    if name not in known:
        hint = did_you_mean(name, known) or f" (known: {', '.join(known)})"
        raise UserError(f"{location}: no preset '{name}'{hint}")
    path = FOLDER / f"{name}.yml"
    try:
        return OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[return-value]
    except (OSError, ValueError) as error:
        raise not_yaml(path, error) from None


def names_preset(section: Any) -> bool:
    """Whether these settings start from a preset."""
    if isinstance(section, str):
        return section.startswith(PREFIX)
    return isinstance(section, Mapping) and "preset" in section


def expanded(section: Any, location: str) -> Any:
    """An adversary section with presets replaced by what they say.

    ``preset:name`` stands for the whole section; in a mapping, ``preset: name`` comes first and other keys change it.
    Settings under ``tasks`` may do the same.
    """
    if isinstance(section, str) and names_preset(section):
        return read_preset(section.removeprefix(PREFIX), location)
    if not isinstance(section, Mapping):
        return section
    own = {str(key): value for key, value in section.items()}
    preset = own.pop("preset", None)
    if isinstance(own.get("tasks"), Mapping):
        own["tasks"] = {name: expanded(value, f"{location}.tasks.{name}") for name, value in own["tasks"].items()}
    return own if preset is None else {**read_preset(str(preset), location), **own}
