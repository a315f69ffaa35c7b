"""Both halves of a task type are there: an entry in TASK_TYPES, and a Kind in the file that it names."""

from __future__ import annotations

from collections import Counter
from importlib import import_module

from data_utils.task_types import TASK_TYPES
from mt_dnn.tasks.base import Kind
from mt_dnn.tasks.kinds import KINDS
from tests import ROOT


def test_every_task_type_has_one_kind_and_every_kind_its_task_type() -> None:
    names = [path.stem for path in sorted((ROOT / "mt_dnn" / "tasks").glob("*.py"))]
    found = {name: getattr(import_module(f"mt_dnn.tasks.{name}"), "KINDS", {}) for name in names}
    exported = [(name, kind) for name, kinds in found.items() if kinds is not KINDS for kind in kinds]
    assert Counter(exported) == Counter((entry.module, name) for name, entry in TASK_TYPES.items())
    assert KINDS.keys() == TASK_TYPES.keys()
    assert all(isinstance(kind, Kind) for kind in KINDS.values())
