"""The cells of a study, and which cell starts from which."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_utils.errors import UserError, did_you_mean
from mt_dnn.studies.study import TASK, Study, as_label, as_labels, axis_items

START = "train.init_from"  # a mapping from axes to labels is the cell of the study that a cell starts from


@dataclass(frozen=True)
class Cell:
    """One combination of labels. ``labels``: axis → label. ``settings``: key of the run file → value, in order."""

    labels: Mapping[str, str]
    settings: Mapping[str, Any]

    def fits(self, labels: Mapping[str, Any]) -> bool:
        """Whether the cell has, on each axis given, one of the labels given."""
        return all(self.labels[axis] in as_labels(wanted) for axis, wanted in labels.items())

    def without(self, axes: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The labels on all other axes, as a key."""
        return tuple((axis, label) for axis, label in self.labels.items() if axis not in axes)

    def __str__(self) -> str:
        return _named(self.labels)


def cells_of(study: Study) -> list[Cell]:
    """All combinations of labels but those that the study leaves out."""
    return [cell for cell in _combinations(study) if not any(map(cell.fits, study.leave_out))]


def sources_of(cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cell that each cell starts from, by its text. Cells that start from none are left out.

    An axis that ``train.init_from`` does not name has the label of the cell itself.

    Raises:
        UserError: there is no such cell, or cells start from each other in a circle.
    """
    known = {tuple(cell.labels.items()): cell for cell in cells}
    found: dict[str, Cell] = {}
    for cell in cells:
        wanted = cell.settings.get(START)
        if isinstance(wanted, Mapping):
            labels = {**cell.labels, **{axis: as_label(label) for axis, label in wanted.items()}}
            if unknown := [axis for axis in wanted if axis not in cell.labels]:
                hint = did_you_mean(unknown[0], cell.labels)
                raise UserError(f"cell {cell}: {START}: no axis '{unknown[0]}'{hint}; axes: {', '.join(cell.labels)}")
            if tuple(labels.items()) not in known:
                raise UserError(f"cell {cell}: {START}: the study has no cell {_named(labels)}; name one that it has")
            found[str(cell)] = known[tuple(labels.items())]
    for cell in cells:
        seen, step = {str(cell)}, found.get(str(cell))
        while step is not None:
            if str(step) in seen:
                raise UserError(f"cell {cell}: {START}: leads in a circle to {step}; let one cell start from no other")
            seen.add(str(step))
            step = found.get(str(step))
    return found


def _named(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis}={label}" for axis, label in labels.items())


def _combinations(study: Study) -> Iterator[Cell]:
    items = [[(axis, label, value) for label, value in axis_items(values)] for axis, values in study.axes.items()]
    for chosen in itertools.product(*items):
        cell = Cell({axis: label for axis, label, _ in chosen}, {})
        settings = dict(study.settings)
        for axis, _, value in chosen:
            settings = _merged(settings, _settings_of(study, axis, value))
        for change in study.cells:
            if cell.fits(change.when):
                settings = _merged(settings, change.set)
        yield Cell(cell.labels, settings)


def _settings_of(study: Study, axis: str, value: Any) -> Mapping[str, Any]:
    if isinstance(study.axes[axis], Mapping):
        return value
    if axis == TASK:
        return {"tasks": list(value) if isinstance(value, (list, tuple)) else [value]}
    return {axis: value}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, with the values above. A key that comes again moves to the end, so that presets stay before their keys."""
    return {**{key: value for key, value in below.items() if key not in above}, **above}
