"""What each task type takes: formats, labels, losses, metrics."""

from __future__ import annotations

from typing import Any

LOSSES = ("cross_entropy", "pairwise", "mse")


DIVERGENCES = ("kl", "sym_kl", "js", "hellinger", "mse")


_CLASSES = {"loss": "cross_entropy", "kd_loss": "kl", "adv_loss": "sym_kl"}


DEFAULTS: dict[str, dict[str, Any]] = {
    "classification": {"metrics": ("accuracy",), **_CLASSES},
    "regression": {"metrics": ("pearson", "spearman"), "loss": "mse", "kd_loss": "mse", "adv_loss": "mse"},
    "multiple_choice": {"metrics": ("accuracy",), **_CLASSES},
    "sequence_labelling": {"metrics": ("entity_f1", "accuracy"), **_CLASSES},
    "span": {"metrics": ("exact_match", "answer_f1"), **_CLASSES},
    "multi_label": {"metrics": ("f1_micro", "f1_macro"), **_CLASSES},
    "cloze": {"metrics": ("exact_match", "answer_f1"), **_CLASSES},
    "ordinal": {"metrics": ("quadratic_kappa", "mae"), **_CLASSES},
    "masked_lm": {"metrics": ("accuracy", "perplexity"), **_CLASSES},
}


FITTING_LOSSES = {
    "classification": ("cross_entropy",),
    "regression": ("mse",),
    "multiple_choice": ("cross_entropy", "pairwise"),
    "sequence_labelling": ("cross_entropy",),
    "span": ("cross_entropy",),
    "multi_label": ("cross_entropy",),
    "cloze": ("cross_entropy", "pairwise"),
    "ordinal": ("cross_entropy",),
    "masked_lm": ("cross_entropy",),
}


FITTING_FORMATS = {
    "classification": ("single", "pair"),
    "regression": ("single", "pair"),
    "multiple_choice": ("choices",),
    "sequence_labelling": ("words",),
    "span": ("question_context",),
    "multi_label": ("single", "pair"),
    "cloze": ("cloze",),
    "ordinal": ("single", "pair"),
    "masked_lm": ("single", "pair"),
}


TASK_TYPES = tuple(FITTING_FORMATS)


DATA_FORMATS = tuple(dict.fromkeys(name for names in FITTING_FORMATS.values() for name in names))


LABELLED = ("classification", "sequence_labelling", "multi_label", "ordinal")  # the types that have classes


WHY_NO_LABELS = {
    "regression": "a regression task has none; use value_range, or task_type: classification",
    "multiple_choice": "a multiple-choice task has none; its label is the number of the right choice",
    "span": "a span task has none; its labels are the answers of each row",
    "cloze": "a cloze task has none; its labels are the numbers of the right choices",
    "masked_lm": "a masked_lm task has none; it guesses tokens of the text",
}
