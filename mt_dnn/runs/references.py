"""Fills in the references ``${…}`` of a run file, and bounds how many characters they may add."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from data_utils.errors import UserError, shortened

INNERMOST = re.compile(r"\$\{([^{}]*)\}")
NAME = re.compile(r"(\.*)([^\\(){}:\s'\"\0\1]*)")  # dots at the beginning go up, as in ${..name}
FILLED, FROM_ENVIRONMENT = "\0", "\1"  # stand for a reference inside another one
DEPTH = 4  # references inside one another
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

    References whose size cannot be known before, such as ``${${a}}``, are refused too. OmegaConf reports circles.
    """
    known: dict[Keys, int] = {}
    texts = [(keys, text) for keys, text in _texts(values, ()) if "${" in text]
    for keys, text in texts:
        if _references(text) is None:
            raise UserError(
                f"{location}: {shortened('.'.join(keys))}: '{shortened(text)}' has a ${{…}} that is not supported; "
                "write ${key}, ${oc.select:key,default} or ${oc.env:NAME,default}"
            )
    grown = {keys: _size(values, keys, known) - len(text) for keys, text in texts}
    if sum(grown.values()) > LARGEST:
        largest = max(grown, key=lambda keys: grown[keys])
        key = shortened(".".join(largest))
        raise UserError(f"{location}: {key}: grows too large when its ${{…}} are filled in; write the value out")


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
            named = (_named(keys, *found) for found in _references(value) or ())
            known[keys] = len(value) + min(sum(_size(values, other, known) for other in named), LARGEST + 1)
        else:
            known[keys] = 1 + sum(_size(values, (*keys, key), known) for key, _ in _items(value))
    return known[keys]


def _references(text: str) -> list[tuple[str, str]] | None:
    """The dots and the name of each value that a text refers to. None: there is a ``${…}`` that is not supported.

    ``oc.env`` refers to no value, and neither does ``oc.decode`` of what is only from the environment.
    """
    found: list[tuple[str, str] | None] = []

    def inside(reference: re.Match[str]) -> str:
        resolver, colon, arguments = (part.strip(" \t") for part in reference[1].partition(":"))
        if resolver == "oc.env" and colon:
            return FILLED if FILLED in arguments else FROM_ENVIRONMENT
        if (resolver, arguments) != ("oc.decode", FROM_ENVIRONMENT):
            key = resolver if not colon else arguments.partition(",")[0] if resolver == "oc.select" else ":"
            name = NAME.fullmatch(key.strip(" \t"))
            found.append(name and (name[1], name[2]))
        return FILLED

    for _ in range(DEPTH):
        text = INNERMOST.sub(inside, text)
    known = [name for name in found if name is not None]
    return None if len(known) < len(found) or "}" in text.partition("${")[2] else known


def _named(keys: Keys, dots: str, name: str) -> Keys:
    """The keys of the value that ``${name}`` at some keys means. ``dots``: those before the name."""
    above = keys[: max(len(keys) - len(dots), 0)] if dots else ()
    return (*above, *filter(None, re.split(r"[.\[\]]", name)))
