"""TASK_TYPES: one entry for each task type, with everything that data_utils needs to know about the type.

The head of a task type is in the file of mt_dnn/tasks that its entry names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# The text columns that a row of each data format needs. A format with choice1 may have more choices.
DATA_FORMATS: Mapping[str, tuple[str, ...]] = {
    "single": ("premise",),
    "pair": ("premise", "hypothesis"),
    "choices": ("premise", "choice1", "choice2"),
    "words": ("words",),
    "question_context": ("question", "context"),
    "cloze": ("premise", "query", "choice1", "choice2"),
}


LOSSES = ("cross_entropy", "pairwise", "mse")


DIVERGENCES = ("kl", "sym_kl", "js", "hellinger", "mse")


Answer = Literal[
    "class",  # one of the task's labels
    "class_set",  # any number of the task's labels
    "word_classes",  # one of the task's labels for each word
    "number",
    "choice",  # which choice of the row is right
    "choices",  # which choices of the row are right; there may be several
    "spans",  # where the answer is in the context; the label names all right answers
    "tokens",  # the tokens behind masks; they are drawn from the text, so a row has no label
]


@dataclass(frozen=True, kw_only=True)
class TaskType:
    """One task type.

    ``module``: the file of mt_dnn/tasks with its head. ``answer``: the kind of answer to a row. It decides how
    labels.py and soft_labels.py read the columns ``label`` and ``soft_label``, and how prepare.py stores labels.

    These fields say what a task definition of this type may contain: ``formats``, ``metrics``, ``losses`` (the first is
    the default), and ``divergences`` (for kd_loss and adv_loss). ``fields``: keys of a definition that only some types
    have, and this type has. ``least_labels``: the least number of labels, 0 if the type has no labels. ``labels_hint``:
    what to do, in the error for a wrong number of labels.
    """

    module: str
    answer: Answer
    formats: tuple[str, ...]
    metrics: tuple[str, ...]
    default_metrics: tuple[str, ...]
    losses: tuple[str, ...] = ("cross_entropy",)
    divergences: tuple[str, ...] = DIVERGENCES
    kd_loss: str = "kl"
    adv_loss: str = "sym_kl"
    least_labels: int = 0
    labels_hint: str = "list all of them"
    fields: tuple[str, ...] = ()

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of the fields that a task definition may leave out."""
        return {
            "metrics": self.default_metrics,
            "loss": self.losses[0],
            "kd_loss": self.kd_loss,
            "adv_loss": self.adv_loss,
        }


TASK_TYPES: Mapping[str, TaskType] = {
    "classification": TaskType(
        module="classification",
        answer="class",
        formats=("single", "pair"),
        metrics=(
            "accuracy",
            "question_exact_match",
            "f1",
            "f1_macro",
            "f1_micro",
            "mcc",
            "auc",
            "confusion_matrix",
        ),
        default_metrics=("accuracy",),
        least_labels=2,
        fields=("enable_san", "label_map", "class_weights", "label_smoothing"),
    ),
    "regression": TaskType(
        module="regression",
        answer="number",
        formats=("single", "pair"),
        metrics=("pearson", "spearman"),
        default_metrics=("pearson", "spearman"),
        losses=("mse",),
        divergences=("mse",),
        kd_loss="mse",
        adv_loss="mse",
        labels_hint="use value_range, or task_type: classification",
        fields=("value_range", "enable_san"),
    ),
    "multiple_choice": TaskType(
        module="choices",
        answer="choice",
        formats=("choices",),
        metrics=("accuracy", "mrr"),
        default_metrics=("accuracy",),
        losses=("cross_entropy", "pairwise"),
        labels_hint="the label of a row is the number of the right choice",
    ),
    "sequence_labelling": TaskType(
        module="words",
        answer="word_classes",
        formats=("words",),
        metrics=("accuracy", "f1_macro", "f1_micro", "entity_f1", "entity_precision", "entity_recall"),
        default_metrics=("entity_f1", "accuracy"),
        least_labels=2,
        fields=("crf", "label_map", "class_weights", "label_smoothing"),
    ),
    "span": TaskType(
        module="spans",
        answer="spans",
        formats=("question_context",),
        metrics=("exact_match", "answer_f1"),
        default_metrics=("exact_match", "answer_f1"),
        labels_hint="the label of a row lists its answers",
        fields=("no_answer",),
    ),
    "multi_label": TaskType(
        module="class_sets",
        answer="class_set",
        formats=("single", "pair"),
        metrics=("accuracy", "f1_macro", "f1_micro"),
        default_metrics=("f1_micro", "f1_macro"),
        least_labels=2,
    ),
    "cloze": TaskType(
        module="choices",
        answer="choices",
        formats=("cloze",),
        metrics=("exact_match", "answer_f1"),
        default_metrics=("exact_match", "answer_f1"),
        losses=("cross_entropy", "pairwise"),
        labels_hint="the label of a row lists the numbers of the right choices",
    ),
    "ordinal": TaskType(
        module="ordinal",
        answer="class",
        formats=("single", "pair"),
        metrics=("accuracy", "quadratic_kappa", "mae", "spearman"),
        default_metrics=("quadratic_kappa", "mae"),
        least_labels=3,
        fields=("class_weights",),
        labels_hint="for two, use task_type: classification",
    ),
    "masked_lm": TaskType(
        module="masked_lm",
        answer="tokens",
        formats=("single", "pair"),
        metrics=("accuracy", "perplexity"),
        default_metrics=("accuracy", "perplexity"),
        labels_hint="it guesses tokens of the text",
    ),
}
