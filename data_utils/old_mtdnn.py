"""Translates task definitions and rows of the old MT-DNN into the format of this toolkit."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_utils.entities import ENTITY
from data_utils.errors import UserError
from data_utils.shipped import find
from data_utils.task_yaml import read_tasks

# Old key → key of a TaskDef. By key: old value → value. The old toolkit has these misspellings.
OLD_KEYS = {"metric_meta": "metrics", "dropout_p": "dropout", "split_names": "splits"}
OLD_IGNORED = ("encoder_type",)  # the run chooses the encoder
OLD_VALUES: dict[str, dict[str, Any]] = {
    "data_format": {
        "PremiseOnly": "single",
        "PremiseAndOneHypothesis": "pair",
        "PremiseAndMultiHypothesis": "choices",
        "Seqence": "words",
        "MRC": "question_context",
        "CLUE_SPAN": "question_context",
        "ClozeChoice": "cloze",
        "MLM": "single",
    },
    "task_type": {
        "Classification": "classification",
        "Regression": "regression",
        "Ranking": "multiple_choice",
        "SeqenceLabeling": "sequence_labelling",
        "Span": "span",
        "SpanYN": "span",
        "SpanClassification": "span",
        "SpanClassificationYN": "span",
        "ClozeChoice": "cloze",
        "MaskLM": "masked_lm",
    },
    "metrics": {
        "ACC": ("accuracy",),
        "F1": ("f1",),
        "MCC": ("mcc",),
        "Pearson": ("pearson",),
        "Spearman": ("spearman",),
        "AUC": ("auc",),
        "F1MAC": ("f1_macro",),
        "F1MIC": ("f1_micro",),
        "CMAT": ("confusion_matrix",),
        "SeqEval": ("entity_f1",),
        "EmF1": ("exact_match", "answer_f1"),
        "EmF12": ("exact_match", "answer_f1"),
    },
    "loss": {
        "CeCriterion": "cross_entropy",
        "RankCeCriterion": "cross_entropy",
        "SeqCeCriterion": "cross_entropy",
        "SpanCeCriterion": "cross_entropy",
        "MlmCriterion": "cross_entropy",
        "MseCriterion": "mse",
    },
    "divergence": {
        "KlCriterion": "kl",
        "NsKlCriterion": "kl",
        "SymKlCriterion": "sym_kl",
        "NsSymKlCriterion": "sym_kl",
        "JSCriterion": "js",
        "HLCriterion": "hellinger",
        "MseCriterion": "mse",
    },
}
# Names of old losses that load as a present one, but computed something else (mt_dnn/loss.py of the released code).
# p is the clean output, q the perturbed one, m their mean. By key: name → what it computed.
LOG_ODDS = "differences of log-odds, which are detached, in place of those of log-probabilities"
OTHER_MEANINGS: dict[str, dict[str, str]] = {
    "adv_loss": {
        "KlCriterion": "KL(q ‖ p), which trains both sides",
        "NsKlCriterion": LOG_ODDS,
        "NsSymKlCriterion": LOG_ODDS,
        "JSCriterion": "KL(m ‖ p) + KL(m ‖ q) with m detached",
        "HLCriterion": "a value that trains nothing, because both sides are detached",
    },
    "kd_loss": {
        "NsKlCriterion": LOG_ODDS,
        "NsSymKlCriterion": LOG_ODDS,
        "JSCriterion": "KL(m ‖ p) + KL(m ‖ q) with m detached",
        "HLCriterion": "a value that trains nothing, because both sides are detached",
    },
}
NO_NAMES = "in a file without a line of column names"
MARKERS = ("X", "CLS", "SEP")  # old labels of special tokens, and of all tokens of a word except the first


def adapt(fields: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Changes ``fields`` where the translation of an old value depends on other values.

    ``fields``: keys and values already translated. ``values``: the definition as it is in the file.
    """
    if values.get("task_type") in ("SpanYN", "SpanClassificationYN"):
        fields.setdefault("no_answer", True)
    if values.get("task_type") == "Ranking":  # they named the labels of single choices
        fields.pop("labels", None)
    labels = _tuple(fields, "labels")
    if values.get("task_type") == "SeqenceLabeling" and labels[-len(MARKERS) :] == MARKERS:
        fields["labels"] = labels[: -len(MARKERS)]
        if fields.get("n_class") == len(labels):
            fields["n_class"] -= len(MARKERS)
    names = _tuple(fields, "metrics")
    if names and all(isinstance(name, str) for name in names):  # the TaskDef refuses others
        found = [metric for name in names for metric in _metrics(name, fields)]
        fields["metrics"] = tuple(dict.fromkeys(found) if "metric_meta" in values else found)


def _metrics(name: str, fields: Mapping[str, Any]) -> tuple[Any, ...]:
    """The metrics for an old or a present name.

    F1 becomes f1_macro if there are not two classes. SeqEval becomes accuracy if labels do not mark entities.
    """
    labels = _tuple(fields, "labels")
    if name == "F1" and (len(labels) or fields.get("n_class", 2)) != 2:
        return ("f1_macro",)
    if name == "SeqEval" and not all(map(ENTITY.fullmatch, labels)):
        return ("accuracy",)
    return OLD_VALUES["metrics"].get(name, (name,))


def _tuple(fields: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    """The value of a key. Empty if it is missing or no tuple, which the TaskDef refuses later."""
    return value if isinstance(value := fields.get(key), tuple) else ()


def loss_notices(path: Path, tasks: Collection[str]) -> list[str]:
    """A line for each old loss in a task file that loads, but computed something else in the old MT-DNN.

    ``tasks``: the names of the tasks that matter.
    """
    return [
        f"{path}: {name}: {key}: {old} is read as {OLD_VALUES['divergence'][old]}. The old MT-DNN computed "
        f"{meanings[old]}; write {OLD_VALUES['divergence'][old]} if that is meant, and this notice ends"
        for name, values in read_tasks(find(path))[0].items()
        for key, meanings in OTHER_MEANINGS.items()
        if f"{name}" in tasks and (old := values.get(key)) in meanings
    ]


def old_columns(expected: list[str], data_format: str, count: int) -> list[str]:
    """The columns of a TSV without a header line that has ``count`` columns.

    They are the ``expected`` columns of the data format. Only ``choices`` has one more column, ``ruid``, and any number
    of choices.
    """
    if data_format != "choices":
        return expected
    return ["uid", "ruid", "label", "premise", *(f"choice{number}" for number in range(1, max(count - 3, 3)))]


def old_row(location: str, row: dict[str, str], data_format: str) -> dict[str, str]:
    """Rewrites the label and the words of a row of a TSV without a header line, so that this toolkit can read them.

    Raises:
        UserError: the label is not a number for each choice, or words and labels are not lists.
    """
    if data_format == "choices" and row["label"]:
        return {**row, "label": _right_choice(location, row["label"], len(row) - 4)}
    if data_format == "words":
        return {**row, "label": _joined(location, row["label"]), "words": _joined(location, row["words"])}
    return row


def is_placeholder(labels: Sequence[str], known: Sequence[str], value_range: tuple[float, float] | None) -> bool:
    """Whether the labels of a test split stand for none: all are 0, or -1 as on the hub, and the task has none such."""
    if set(labels) not in ({"0"}, {"-1"}, {"-1.0"}):
        return False
    if value_range is not None:
        return not value_range[0] <= float(labels[0]) <= value_range[1]
    return bool(known) and labels[0] not in known


def _right_choice(location: str, label: str, count: int) -> str:
    """The number, from 1, of the choice with the highest number in the label."""
    try:
        values = [float(value) for value in label.split(",")]
    except ValueError:
        values = []
    if len(values) != count or sum(value >= max(values) for value in values) != 1:
        raise UserError(
            f"{location}: label '{label}': {NO_NAMES}, write a number for each of the {count} choices, "
            "the highest for the right one"
        )
    return str(values.index(max(values)) + 1)


def _joined(location: str, text: str) -> str:
    """The texts of a Python list, joined with a space."""
    try:
        texts = ast.literal_eval(text)
        if not isinstance(texts, list) or any(" " in word for word in texts):
            raise ValueError
        return " ".join(texts)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(f"{location}: {NO_NAMES}, write labels and words as lists, ['a', 'b']") from None
