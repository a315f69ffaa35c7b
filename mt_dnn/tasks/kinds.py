"""KINDS: what each task type is, one entry per type: its head and how its logits are read."""

from __future__ import annotations

from collections.abc import Mapping

from mt_dnn.tasks.base import Kind, mean_size
from mt_dnn.tasks.choices import Choices, Cloze, choice_head
from mt_dnn.tasks.class_sets import ClassSets, multi_label_head
from mt_dnn.tasks.classification import Classes
from mt_dnn.tasks.heads import pooled_head
from mt_dnn.tasks.masked_lm import MaskedTokens, masked_lm_head
from mt_dnn.tasks.ordinal import OrderedClasses, ordinal_head
from mt_dnn.tasks.regression import Values
from mt_dnn.tasks.spans import Spans, span_head
from mt_dnn.tasks.words import WordClasses, token_head

KINDS: Mapping[str, Kind] = {
    "classification": Kind(pooled_head, Classes()),
    "regression": Kind(pooled_head, Values()),
    "multiple_choice": Kind(choice_head, Choices(), lambda task, split: mean_size(split.groups)),
    "sequence_labelling": Kind(token_head, WordClasses()),
    "span": Kind(span_head, Spans(), lambda task, split: mean_size(split.sequence_offsets)),
    "multi_label": Kind(multi_label_head, ClassSets(), lambda task, split: 2.0),
    "cloze": Kind(choice_head, Cloze(), lambda task, split: mean_size(split.groups)),
    "ordinal": Kind(ordinal_head, OrderedClasses()),
    "masked_lm": Kind(masked_lm_head, MaskedTokens(), lambda task, split: split.manifest["masking"]["vocabulary"]),
}
