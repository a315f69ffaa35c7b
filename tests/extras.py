"""The extras of setup.py that tests need. Without one, its tests are skipped, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import pytest

# The setting of a run that needs an extra, the name of the extra, and the package that it installs.
NEEDED = (
    ("train.gradient_surgery=pcgrad", "pcgrad", "torchjd"),
    ("optimizer.name=lamb", "lamb", "pytorch_optimizer"),
    ("adapter.kind=lora", "adapters", "peft"),
    ("adapter.kind=ia3", "adapters", "peft"),
    ("log.trackers=[tensorboard]", "tensorboard", "tensorboard"),
)


def missing_extra(options: Sequence[str]) -> str | None:
    """Why a run with these options cannot be tested here: it needs an extra that is not installed. None if it can."""
    missing = [extra for option, extra, package in NEEDED if option in options and find_spec(package) is None]
    return f"the extra {missing[0]} is not installed" if missing else None


def skip_without(options: Sequence[str]) -> list[pytest.MarkDecorator]:
    """The marks of a test of a run with these options."""
    reason = missing_extra(options)
    return [pytest.mark.skip(reason=reason)] if reason else []
