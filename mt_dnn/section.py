"""Section: the base of every group of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def _refuse_unread(self, choice: str, keys: set[str], reads: set[str]) -> None:
        """A setting that the choice does not read must keep its default: nothing typed is ever ignored."""
        for key in keys - reads:
            default = type(self).model_fields[key].get_default(call_default_factory=True)
            if getattr(self, key) != default:
                raise ValueError(f"{key} is not read by '{choice}'")
