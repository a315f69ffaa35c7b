"""Presets: named settings of adversaries, for ``adversary: preset:tat/paper``. Each is a file in the folder presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data_utils.errors import UserError, did_you_mean, not_yaml

PREFIX = "preset:"
FOLDER = Path(__file__).parent / "presets"
# Names that presets had before. Each is followed by the preset with the same settings. If it claimed to be what another
# preset is now, that one follows too, and the user has to choose.
ROBERTA = "freelb/roberta_large"
OLD_NAMES: Mapping[str, Sequence[str]] = {
    "rapt/embedding": ("rapt/words", "rapt/embeddings"),
    **{f"{ROBERTA}/{path.name}": (f"{ROBERTA}/{path.name}/paper",) for path in (FOLDER / ROBERTA).iterdir()},
}


@lru_cache
def preset_names() -> list[str]:
    """The names of all presets, sorted, such as ``freelb/roberta_large/rte/paper``."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yml"))


def read_preset(name: str, location: str) -> dict[str, Any]:
    """Reads the settings of a preset. Messages begin with ``location``.

    Raises:
        UserError: no preset has this name any more or at all, or its file is not YAML.
    """
    same, *others = OLD_NAMES.get(name, (name,))
    if others:
        raise UserError(
            f"{location}: preset '{name}' is now called {same}; "
            f"the settings of its source are {others[0]}; choose one of the two"
        )
    name = same
    known = preset_names()
    if name not in known:
        hint = did_you_mean(name, known) or f" (known: {', '.join(known)})"
        raise UserError(f"{location}: no preset '{name}'{hint}")
    return dict(_content(FOLDER / f"{name}.yml"))


@lru_cache
def _content(path: Path) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[return-value]
    except (OSError, ValueError) as error:
        raise not_yaml(path, error) from None


def names_preset(section: Any) -> bool:
    """Whether an adversary section names a preset."""
    if isinstance(section, str):
        return section.startswith(PREFIX)
    return isinstance(section, Mapping) and "preset" in section


def expanded(section: Any, location: str) -> Any:
    """Replaces presets in an adversary section by their settings, and a mode's name alone by ``{mode: name}``.

    The section is a mode such as ``tat``, or ``preset:<name>``, or a mapping. If the mapping has the key ``preset``,
    its other keys change the preset's settings. The settings of each task under ``tasks`` may be written in these ways
    too.
    """
    if isinstance(section, str):
        return read_preset(section.removeprefix(PREFIX), location) if names_preset(section) else {"mode": section}
    if not isinstance(section, Mapping):
        return section
    settings = {str(key): value for key, value in section.items()}
    preset = settings.pop("preset", None)
    tasks = settings.get("tasks")
    if isinstance(tasks, Mapping):
        settings["tasks"] = {name: expanded(value, f"{location}.tasks.{name}") for name, value in tasks.items()}
    return settings if preset is None else {**read_preset(str(preset), location), **settings}
