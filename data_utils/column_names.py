"""Names that other data sets give to the columns of canonical rows, for errors that say what to rename."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from data_utils.errors import UserError
from data_utils.task_types import DATA_FORMATS

LABELS = ("labels", "tags", "ner_tags", "gold_label", "gold", "target")

# By column, the names that other data sets use for it, in lower case.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "uid": ("id", "idx", "guid", "index", "pairid", "row_id"),
    "label": (*LABELS, "class", "score", "answer", "answers"),
    "premise": ("sentence1", "text1", "text_a", "question1", "question", "passage", "sentence", "text", "context"),
    "hypothesis": ("sentence2", "sentence", "text2", "text_b", "question2", "answer"),
    "words": ("tokens", "token", "sentence", "text"),
    "question": ("query",),
    "context": ("passage", "paragraph", "text"),
    "query": ("question",),
}
KNOWN = {*OTHER_NAMES, *(name for names in DATA_FORMATS.values() for name in names)}
KNOWN |= {name for names in OTHER_NAMES.values() for name in names}


def other_name(columns: Sequence[str], wanted: str, names: Sequence[str] | None = None) -> str | None:
    """The column that is probably ``wanted`` under another name, one of ``names``. None if there is none."""
    spelled = {column.strip().lower(): column for column in columns}
    for name in (wanted, *(OTHER_NAMES.get(wanted, ()) if names is None else names)):
        if name in spelled and spelled[name] != wanted:
            return spelled[name]
    return None


def looks_like_names(cells: Sequence[str]) -> bool:
    """Whether the first line of a TSV has names of columns: two of its first three cells are such names."""
    return sum(cell.strip().lower() in KNOWN for cell in cells[:3]) >= 2


def check_no_names(location: str, cells: Sequence[str], expected: Sequence[str]) -> None:
    """Raises UserError if the first line of a TSV, taken for a row of the old MT-DNN, looks like names of columns."""
    if not looks_like_names(cells):
        return
    changes, free = [], [cell for cell in cells if cell not in expected]
    for name in expected:
        if name not in cells:
            found = other_name(free, name)
            if found is not None:
                free.remove(found)
            changes.append(f"add '{name}'" if found is None else f"rename '{found}' to '{name}'")
    todo = f": {', '.join(changes)}" if changes else ""
    raise UserError(
        f"{location}: looks like column names, but the names have to be {', '.join(expected)}{todo} "
        "(if it is a row, write a line with these names above it)"
    )


def check_label_name(location: object, columns: Sequence[str]) -> None:
    """Raises UserError if there is no column of labels, but one whose name says that it has labels."""
    if "label" not in columns and (found := other_name(columns, "label", LABELS)):
        raise UserError(
            f"{location}: no column 'label', but '{found}'; rename it to 'label', or to anything else if the rows "
            "are unlabelled"
        )


def check_columns(location: object, columns: Iterable[str], needed: Sequence[str]) -> None:
    """Raises UserError if two columns have the same name, or one of the needed columns is missing."""
    columns = list(columns)
    if twice := {name for name in columns if columns.count(name) > 1}:
        raise UserError(f"{location}: two columns have the name '{min(twice)}'; rename one of them")
    for name in needed:
        if name not in columns:
            found = other_name([column for column in columns if column not in needed], name)
            hint = f"; rename '{found}' to '{name}'" if found else ""
            raise UserError(f"{location}: no column '{name}' (columns: {', '.join(columns)}){hint}")
