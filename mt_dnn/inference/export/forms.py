"""What a task becomes in transformers, and which tasks and settings cannot become anything there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from data_utils.errors import UserError
from data_utils.task_def import TaskDef
from mt_dnn.encoders.family import FamilyLayers, activation_of
from mt_dnn.inference.export.layouts import CHOICES, FREE, MODERN_WORDS, SEQUENCES, SPANS, TOKENS, WORDS, Layout
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.tasks.masked_lm import MaskedLMHead
from mt_dnn.tasks.run_tasks import head_owner


@dataclass(frozen=True)
class Form:
    """A model class of transformers for tasks of a type.

    ``auto``: the class that chooses by family. ``layouts``: by family, where the weights belong. ``tag``: the name that
    the hub has for such models, often that of a pipeline. ``problem``: the setting ``problem_type``.
    """

    auto: Any
    layouts: Mapping[str, Layout]
    tag: str
    problem: str | None = None


CHOOSING = Form(AutoModelForMultipleChoice, CHOICES, "multiple-choice")
FORMS: Mapping[str, Form] = {
    "classification": Form(
        AutoModelForSequenceClassification, SEQUENCES, "text-classification", "single_label_classification"
    ),
    "regression": Form(AutoModelForSequenceClassification, SEQUENCES, "text-classification", "regression"),
    "multi_label": Form(
        AutoModelForSequenceClassification, SEQUENCES, "text-classification", "multi_label_classification"
    ),
    "sequence_labelling": Form(AutoModelForTokenClassification, TOKENS, "token-classification"),
    "span": Form(AutoModelForQuestionAnswering, SPANS, "question-answering"),
    "multiple_choice": CHOOSING,
    "cloze": CHOOSING,
    "masked_lm": Form(AutoModelForMaskedLM, WORDS, "fill-mask"),
}


@dataclass(frozen=True)
class Layers:
    """What a run has trained between the encoder and the output layer of a head. ``dense`` is None: nothing."""

    dense: nn.Linear | None = None
    activation: str = ""
    norm: nn.LayerNorm | None = None


def form_of(model: TrainedModel, name: str) -> tuple[TaskDef, Form, Layout]:
    """The task that owns the head of a task, the form that it gets in transformers, and the layout of its weights.

    Raises:
        UserError: there is no such task, or transformers has no model that computes what its head computes.
    """
    task, encoder = model.task(name), model.model.encoder
    owner, family = model.trained[head_owner(task)], encoder.model.config.model_type
    if task.label_map:
        raise UserError(f"{name}: has a label_map, which transformers cannot express; use --task {owner.name}")
    if owner.enable_san:
        raise UserError(f"{name}: transformers has no stochastic answer network; train with enable_san: false")
    if owner.crf:
        raise UserError(f"{name}: transformers has no conditional random field; train with crf: false")
    if owner.task_type not in FORMS:
        raise UserError(
            f"{name}: transformers has no {owner.task_type} head; train it as task_type: classification or regression"
        )
    check_encoder(model)
    form = FORMS[owner.task_type]
    if family not in form.layouts:
        known = ", ".join(form.layouts)
        raise UserError(
            f"{name}: transformers has no such {form.tag} model of the family '{family}'; train an encoder of {known}"
        )
    layout = form.layouts[family]
    _check_layers(model, name, layout)
    return owner, form, layout


def exportable(model: TrainedModel) -> str | None:
    """The first trained task that has a form in transformers. None: there is none."""
    for name in model.trained:
        try:
            form_of(model, name)
        except UserError:
            continue
        return name
    return None


def check_encoder(model: TrainedModel) -> None:
    """Raises UserError if transformers' model of the family does not compute the states that heads read."""
    if model.model.encoder.mix is not None:
        raise UserError("encoder.scalar_mix: transformers has no mix of levels; train with encoder.scalar_mix=false")


def layers_of(model: TrainedModel, owner: str) -> Layers:
    """The layers between the encoder and the output layer of the head that a task owns.

    Raises:
        UserError: ``encoder.pooler`` is something that transformers never has there.
    """
    encoder, head = model.model.encoder, model.model.heads[owner]
    if isinstance(head, MaskedLMHead):
        return Layers(head.dense, head.activation, head.norm)
    layers = getattr(head, "layers", None) if head.reads_tokens else encoder.pooler
    if isinstance(layers, FamilyLayers):
        return Layers(layers.dense, layers.activation, layers.norm)
    if head.reads_tokens:
        return Layers()
    if encoder.pooler_source not in ("pretrained", "fresh"):
        raise UserError(
            f"encoder.pooler: no classifier of transformers has the pooler {encoder.pooler_source}; "
            "train with encoder.pooler=family"
        )
    return Layers(encoder.pooler_dense, "tanh")


def _check_layers(model: TrainedModel, name: str, layout: Layout) -> None:
    """Raises UserError if the trained layers are not those of the layout."""
    settings, owner = model.model.encoder.model.config, head_owner(model.task(name))
    layers, head = layers_of(model, owner), model.model.heads[owner]
    if isinstance(head, MaskedLMHead) and layout is MODERN_WORDS and model.model.encoder.pooler_source != "family":
        raise UserError(
            f"{name}: the layers of its head are not those that '{settings.model_type}' has in transformers; "
            "train with encoder.pooler=family"
        )
    activation = activation_of(settings, layout.activation)
    same = all((a is None) == (b is None) for a, b in ((layers.dense, layout.dense), (layers.norm, layout.norm)))
    if same and (layers.dense is None or layers.activation == activation or layout.activation in FREE):
        return
    trained = f"a {layers.activation} layer" if layers.dense is not None else "no layer"
    norm = " and a LayerNorm" if layout.norm else ""
    raise UserError(
        f"encoder.pooler: {trained} was trained below the head of {name}, but '{settings.model_type}' has "
        f"{activation}{norm} there in transformers; train with encoder.pooler=family"
    )
