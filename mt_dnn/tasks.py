"""KINDS: what each task type is, one entry per type: its head and how its logits are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from data_utils.errors import UserError, did_you_mean
from data_utils.prepare import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.decode import (
    Choices,
    Classes,
    ClassSets,
    Cloze,
    Decoding,
    MaskedTokens,
    OrderedClasses,
    Spans,
    Values,
    WordClasses,
)
from mt_dnn.encoder import Encoder
from mt_dnn.heads import (
    ChoiceHead,
    CRFHead,
    HeadsConfig,
    MaskedLMHead,
    MultiLabelHead,
    OrdinalHead,
    PooledHead,
    SANHead,
    SpanHead,
    TokenHead,
)


@dataclass(frozen=True)
class Kind:
    """A task type: ``head(task, encoder, dropout, options)`` builds its head, ``decoding`` reads the logits.

    ``options``: how many a decision has, in the mean over the rows of a split; 1 where a value is asked for.
    """

    head: Callable[[TaskDef, Encoder, float, HeadsConfig], nn.Module]
    decoding: Decoding
    options: Callable[[TaskDef, Prepared], float] = lambda task, split: task.n_class


def pooled_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    if not task.enable_san:
        return PooledHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)
    return SANHead(
        encoder.hidden_size,
        task.n_class,
        dropout,
        encoder.initializer_range,
        steps=options.san_steps,
        prediction_dropout=options.san_prediction_dropout,
    )


def choice_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    return ChoiceHead(encoder.hidden_size, dropout, encoder.initializer_range)


def token_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    kind = CRFHead if task.crf else TokenHead
    return kind(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


def span_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    return SpanHead(encoder.hidden_size, dropout, encoder.initializer_range)


def multi_label_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    return MultiLabelHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


def ordinal_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    return OrdinalHead(encoder.hidden_size, task.n_class, dropout, encoder.initializer_range)


def masked_lm_head(task: TaskDef, encoder: Encoder, dropout: float, options: HeadsConfig) -> nn.Module:
    config, words = encoder.model.config, encoder.model.get_input_embeddings()
    activation, eps = getattr(config, "hidden_act", "gelu"), getattr(config, "layer_norm_eps", 1e-12)
    return MaskedLMHead(words, encoder.hidden_size, activation, eps, encoder.initializer_range)


def mean_size(bounds: np.ndarray | None) -> float:
    """Mean of ``bounds[i+1] - bounds[i]``."""
    assert bounds is not None
    return float(np.diff(bounds).mean())


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


def head_owner(task: TaskDef) -> str:
    """Name of the task whose head this task reads."""
    return task.head or task.name


def check_heads(trained: Mapping[str, TaskDef], place: str) -> None:
    """Raises UserError unless the heads of all training tasks belong to one of them."""
    for name, task in trained.items():
        if head_owner(task) not in trained:
            raise UserError(f"{place}: {name}: trains the head of '{task.head}', which has to be a training task too")


def training_tasks(defs: Mapping[str, TaskDef], wanted: tuple[str, ...] | None, place: str) -> dict[str, TaskDef]:
    """The tasks of a run in the order asked for; default: every task of the file with a train split.

    Raises:
        UserError: a task that does not exist, is named twice, has no train split, or trains the head of none of them.
    """
    names = wanted or tuple(name for name, task in defs.items() if task.trainable)
    for name in names:
        if name not in defs:
            hint = did_you_mean(name, defs) or f" (known: {', '.join(defs)})"
            raise UserError(f"{place}: tasks: no task '{name}'{hint}")
        if not defs[name].trainable:
            raise UserError(f"{place}: {name}: has no train split, so it cannot be a training task")
        if hasattr(nn.ModuleDict, name):
            raise UserError(f"{place}: {name}: a training task cannot have this name, torch uses it; choose another")
    if len(set(names)) < len(names):
        raise UserError(f"{place}: tasks: a task is named twice: {', '.join(names)}")
    trained = {name: defs[name] for name in names}
    check_heads(trained, f"{place}: tasks")
    return trained


def evaluated_tasks(defs: Mapping[str, TaskDef], trained: Mapping[str, TaskDef]) -> dict[str, TaskDef]:
    """The trained tasks and every task of the file that reads one of their heads."""
    return {name: task for name, task in defs.items() if name in trained or task.head in trained}
