"""Reads the YAML of a task file, and remembers keys and labels as they are written there."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from data_utils.errors import UserError
from data_utils.extends import layers, merged
from data_utils.yaml_files import CSafeLoader, read_yaml_file

TEXT, REWRITTEN = "tag:yaml.org,2002:str", "!rewritten"
TEXTS = ("labels", "label_map", "class_weights", "columns", "files")  # keys whose values hold texts


@dataclass(frozen=True)
class Rewritten:
    """A key or a label that YAML reads as something else than the text in the file, such as ``1_000`` or ``no``."""

    written: str
    value: Any

    def __str__(self) -> str:
        return self.written


class _Strict(SafeConstructor):
    """Refuses a mapping with the same key twice; ``1`` and ``"1"`` are the same key.

    Only a key with the same text or number twice passes, as in a file of the old MT-DNN.

    Keys and labels that YAML rewrites become ``Rewritten``.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = str(self.construct_object(key_node, deep=True))
            first = seen.setdefault(key, value_node)
            if first is not value_node and not (isinstance(first, yaml.ScalarNode) and first.value == value_node.value):
                raise yaml.MarkedYAMLError(problem=f"'{key}' occurs twice; keep one", problem_mark=key_node.start_mark)
        self.flatten_mapping(node)
        for key_node, value_node in node.value:
            self._mark(key_node)
            if key_node.value in TEXTS:
                for inner in value_node.value if isinstance(value_node, yaml.CollectionNode) else ():
                    scalars = inner if isinstance(inner, tuple) else (inner,)
                    for scalar in scalars[:1] if key_node.value == "class_weights" else scalars:
                        self._mark(scalar)
        return super().construct_mapping(node, deep)

    def _mark(self, node: yaml.Node) -> None:
        """Makes a plain text that YAML reads as another one a ``Rewritten``."""
        if isinstance(node, yaml.ScalarNode) and node.tag not in (TEXT, REWRITTEN):
            value = self.construct_object(node)
            if isinstance(value, bool) or value is None or f"{value}" != node.value:
                self.constructed_objects[node] = Rewritten(node.value, value)
                node.tag = REWRITTEN


class _FastLoader(_Strict, CSafeLoader):
    """Ten times as fast as the other one."""


class _Loader(_Strict, yaml.SafeLoader):
    """Says more of what is wrong, for example that a character is a tab."""


def written_text(location: str, key: str, value: Any) -> str:
    """A label or a name as text.

    Raises:
        UserError: YAML read another text than the file has, or the value is a list or a mapping.
    """
    if isinstance(value, Rewritten):
        written = value.written or "an empty place"
        found = value.value
        read = "nothing" if found is None else "a truth value" if isinstance(found, bool) else found
        raise UserError(f'{location}: {key}: YAML reads {written} as {read}; quote it: "{value.written}"')
    if isinstance(value, list | dict):
        raise UserError(f"{location}: {key}: write a text, not a {type(value).__name__}")
    return f"{value}"


def _load(text: str) -> Any:
    try:
        return yaml.load(text, _FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, _Loader)


def read_yaml(path: Path, kind: str = "task definition file") -> Any:
    """Reads a task file, or another ``kind`` of file. Raises UserError if it is not YAML, or has a key twice."""
    return read_yaml_file(path, _load, kind)


def read_tasks(path: Path) -> tuple[dict[Any, Any], dict[Any, Path]]:
    """Reads a task file and the files that it extends. Returns tasks by name, and the last file with each of them.

    Raises:
        UserError: as ``read_yaml``, or a file is no mapping, does not exist or extends itself.
    """
    content: dict[Any, Any] = {}
    files: dict[Any, Path] = {}
    for file, tasks in layers(path, _tasks(path), _tasks):
        content = merged(content, tasks)
        files |= dict.fromkeys(tasks, file)
    return content, files


def _tasks(path: Path) -> dict[Any, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: write a mapping from task names to their definitions")
    return content
