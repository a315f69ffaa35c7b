"""Accuracy on the parts of challenge sets, such as the sub-cases of HANS or the two halves of SNLI-CAD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_utils.errors import UserError
from mt_dnn.analyses.answers import Answers, Record


def challenge(sets: Sequence[Answers], by: Sequence[str] = ()) -> Record:
    """The accuracy of runs on challenge sets, and on their parts.

    Args:
        sets: the answers of each run to each set. A set is one task and split.
        by: columns of the rows, such as ``heuristic`` and ``subcase`` of HANS. Rows with the same values in them are a
            part. Sets without such columns are one part.

    Raises:
        UserError: no set has a column of ``by``.
    """
    for column in by:
        if not any(column in found.columns for found in sets):
            known = sorted({name for found in sets for name in found.columns})
            raise UserError(f"by: no column '{column}' in the rows of {sets[0].task} (columns: {', '.join(known)})")
    return {
        "kind": "challenge",
        "by": list(by),
        "parts": [part for found in sets for part in _parts(found, by)],
    }


def _parts(answers: Answers, by: Sequence[str]) -> list[Record]:
    here = [column for column in by if column in answers.columns]
    keys = list(zip(*(answers.columns[column] for column in here), strict=True)) if here else [()] * len(answers.gold)
    constant = np.bincount(answers.gold).max() / len(answers.gold)
    parts = []
    for key in dict.fromkeys([(), *keys]):  # the first one has all rows
        inside = np.array([key in ((), found) for found in keys])
        parts.append(
            {
                "name": answers.run.name,
                "run": str(answers.run.folder),
                "set": f"{answers.task}/{answers.split}",
                "part": dict(zip(here, key, strict=True)) if key else {},
                "gold": [answers.labels[label] for label in np.unique(answers.gold[inside])],
                "rows": int(inside.sum()),
                "accuracy": float(answers.right[inside].mean()),
                **({} if key else {"constant": float(constant)}),
            }
        )
    return parts
