"""What all combinations read: one folder with rows of every task and one encoder per family."""

from __future__ import annotations

import contextlib
import io
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.golden.combinations import FAMILIES, combinations
from tests.tiny import tiny_encoder
from tests.workspace import MORE_TASKS, SHARING_TASKS, make_workspace

PINNED = ("torch", "transformers")  # new weights and dropout masks are theirs
PACKAGES = (*PINNED, "numpy", "tokenizers", "pytorch-optimizer", "torchjd")


def make_inputs(folder: Path) -> Path:
    """Writes encoders, rows, task file and run file into an empty folder; returns the run file."""
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        for family in FAMILIES:
            tiny_encoder(folder / "encoders" / family, family)
        return make_workspace(folder, train_rows=8, more=[*MORE_TASKS, *SHARING_TASKS], soft=True)


def all_combinations(folder: Path) -> dict[str, list[str]]:
    """The overrides of every combination, for inputs that lie in this folder."""
    return combinations(str(folder / "encoders"))


def machine() -> dict[str, str]:
    """What figures depend on besides the code: processor, Python and versions of packages."""
    import torch

    return {
        "processor": platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{package: installed(package) for package in PACKAGES},
    }


def installed(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
