"""Section: the base of every group of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from data_utils.yaml_files import is_text

LARGEST = 1_000_000_000
LARGEST_FLOAT = 1e30  # a multiple of it still fits into 32 bits
LONGEST_NAME = 255  # bytes of a name of a file or folder
LONGEST_PATH = 4000  # bytes

# Whole numbers, from 1 and from 0, that fit every counter.
PositiveInt = Annotated[int, Field(gt=0, le=LARGEST)]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _usable(path: Path) -> Path:
    if not is_text(f"{path}"):
        raise ValueError("is no path: it holds a character that is no text")
    if len(f"{path}".encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in path.parts):
        raise ValueError(f"is too long: a name has at most {LONGEST_NAME} bytes, and a path {LONGEST_PATH}")
    return path


UsablePath = Annotated[Path, AfterValidator(_usable)]


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are errors, and so are infinite and very large numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _refuse_very_large(cls, value: Any) -> Any:
        if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
            raise ValueError(f"is too large: at most {LARGEST_FLOAT:g}")
        return value

    def _refuse_unread(self, choice: str, keys: set[str], reads: set[str]) -> None:
        """Refuses settings that would have no effect.

        Args:
            choice: what the user has chosen, such as the name of an optimizer.
            keys: the settings that only some choices read.
            reads: the keys that this choice reads.

        Raises:
            ValueError: a key that this choice does not read is not at its default.
        """
        for key in keys - reads:
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if getattr(self, key) != default:
                raise ValueError(f"{key} has no effect with '{choice}'; leave it out")
