"""Fills in ``${…}`` in a run file, and bounds what they can grow to: OmegaConf makes the value of each anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from data_utils.errors import UserError, shortened

REFERENCE = re.compile(r"\$\{(\.*)([^${}:]*)\}")  # dots at the beginning go up, as in ${..name}
LARGEST = 100_000  # characters that all references of a run file add to it

Keys = tuple[str, ...]


def filled(values: Mapping[str, Any], location: object) -> Any:
    """The values with all references filled in.

    Raises:
        UserError: see ``check_references``, or too many of them lead from one to the next.
        OmegaConfBaseException: a reference is none, or leads nowhere.
    """
    try:
        check_references(values, location)
        return OmegaConf.to_container(OmegaConf.create(dict(values)), resolve=True)
    except RecursionError:
        raise UserError(f"{location}: too many ${{…}} lead from one to the next; write their values out") from None


def check_references(values: Mapping[str, Any], location: object) -> None:
    """Raises UserError if references grow beyond ``LARGEST``, as in ``b: ${a}${a}``, ``c: ${b}${b}`` and so on.

    A circle is left to OmegaConf, which tells it.
    """
    known: dict[Keys, int] = {}
    grown = {keys: _size(values, keys, known) - len(text) for keys, text in _texts(values, ()) if "${" in text}
    if sum(grown.values()) > LARGEST:
        largest = max(grown, key=lambda keys: grown[keys])
        key = shortened(".".join(largest))
        raise UserError(f"{location}: {key}: has too many ${{…}} of values that have such themselves; write it out")


def _texts(value: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    """Yields all texts, and the keys that lead there."""
    if isinstance(value, str):
        yield keys, value
    for key, below in _items(value):
        yield from _texts(below, (*keys, key))


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return ((str(key), below) for key, below in pairs)


def _size(values: Any, keys: Keys, known: dict[Keys, int]) -> int:
    """How many characters the value at the keys has when it is filled in. At most ``LARGEST + 1`` more than it has."""
    if keys not in known:
        known[keys] = 0  # found again below, it is a circle
        value = values
        for key in keys:
            value = next((below for name, below in _items(value) if name == key), None)
        if isinstance(value, str):
            named = (_named(keys, *found) for found in REFERENCE.findall(value))
            known[keys] = len(value) + min(sum(_size(values, other, known) for other in named), LARGEST + 1)
        else:
            known[keys] = 1 + sum(_size(values, (*keys, key), known) for key, _ in _items(value))
    return known[keys]


def _named(keys: Keys, dots: str, name: str) -> Keys:
    """The keys of the value that ``${name}`` at some keys means. ``dots``: those before the name."""
    above = keys[: max(len(keys) - len(dots), 0)] if dots else ()
    return (*above, *filter(None, re.split(r"[.\[\]]", name)))
