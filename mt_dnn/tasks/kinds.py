"""KINDS: the head and the decoding of each task type.

Each file of this folder that holds heads exports a mapping ``KINDS``, task type → Kind. The entry of a type in
data_utils/task_types.py names its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from data_utils.task_types import TASK_TYPES
from mt_dnn.tasks.base import Kind

KINDS: Mapping[str, Kind] = {
    name: import_module(f"mt_dnn.tasks.{entry.module}").KINDS[name] for name, entry in TASK_TYPES.items()
}
