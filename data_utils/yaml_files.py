"""Reads YAML of any author: what is too deep, too large, or no text is refused before it is made into values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

try:
    from yaml import CSafeLoader  # ten times as fast as its twin in Python
except ImportError:  # PyYAML was built without it
    from yaml import SafeLoader as CSafeLoader  # type: ignore[assignment]

from data_utils.errors import UserError, not_yaml, os_errors, shown
from data_utils.files import read_text

DEPTH = 50  # lists and mappings within each other
NODES = 200_000  # values, keys included; an alias (*name) counts as often as it stands there
DIGITS = 300  # of a number

TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge", "value")}
TAGS |= {"tag:yaml.org,2002:timestamp"}

T = TypeVar("T")


def read_yaml_file(path: Path, parse: Callable[[str], T], kind: str = "file") -> T:
    """Returns what ``parse`` makes of a YAML file. ``kind``: what it is, for the message that there is none.

    Raises:
        UserError: see ``parse_yaml``, or the file cannot be read.
    """
    with os_errors(path, "cannot be read"):
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such {kind}") from None
    return parse_yaml(text, path, parse)


def parse_yaml(text: str, location: object, parse: Callable[[str], T]) -> T:
    """Returns what ``parse`` makes of YAML.

    Raises:
        UserError: the text is not YAML, or a value is too deep, too large, refers to itself or is no valid text.
    """
    try:
        node = _compose(text, f"{location}")
        if node is not None:
            _check(node, f"{location}", {}, set())
        return parse(text)
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{location}: is nested too deeply; write at most {DEPTH} levels") from None
    except Exception as error:  # PyYAML raises many kinds for a value that does not fit its tag, such as !!bool x
        raise not_yaml(location, error) from None


def _compose(text: str, location: str) -> yaml.Node | None:
    try:
        _check_depth(text, location)
        return yaml.compose(text, CSafeLoader)
    except (yaml.YAMLError, UnicodeEncodeError):  # the other loader says more, for example that a character is a tab
        return yaml.compose(text, yaml.SafeLoader)


def _check_depth(text: str, location: str) -> None:
    """Refuses a text that is nested too deeply, before a loader in C calls itself for each level."""
    depth = 0
    event: Any
    for event in yaml.parse(text, CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH:
            raise UserError(
                f"{location}:{event.start_mark.line + 1}: is nested too deeply; write at most {DEPTH} levels"
            )


def _check(node: yaml.Node, location: str, known: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """Returns how many nodes there are from this one on, and how many levels. ``above``: the nodes that hold it."""
    if id(node) in known:
        return known[id(node)]
    here = f"{location}:{node.start_mark.line + 1}"
    if id(node) in above:
        raise UserError(f"{here}: a value holds itself; write it out")
    if node.tag not in TAGS:
        raise UserError(f"{here}: the tag {shown(node.tag)} is not read here; leave it out")
    size, depth = 1, 1
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, here)
    else:
        below = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        found = [_check(part, location, known, above | {id(node)}) for part in below]
        size, depth = 1 + sum(size for size, _ in found), 1 + max((depth for _, depth in found), default=0)
    if depth > DEPTH:
        raise UserError(f"{here}: is nested too deeply; write at most {DEPTH} levels")
    if size > NODES:
        raise UserError(f"{here}: has more than {NODES:,} values; write fewer")
    known[id(node)] = size, depth
    return size, depth


def _check_scalar(node: yaml.ScalarNode, here: str) -> None:
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > DIGITS:
        raise UserError(f"{here}: a number of {len(node.value):,} digits; write it shorter, or quote it")
    if not is_text(node.value):
        raise UserError(f"{here}: {shown(node.value)} holds a character that is no text; remove it")


def is_text(value: str) -> bool:
    """Whether a value can be in a name of a file and in a file: it has no NUL and no single surrogate."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
