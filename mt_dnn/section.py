"""Section: the base of every group of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

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
