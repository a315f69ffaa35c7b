"""Builds the transformers model that computes what the head of a task computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.task_def import TaskDef
from mt_dnn.encoders.pretrained import quiet, read_config
from mt_dnn.inference.export.forms import Form, check_encoder, form_of, layers_of
from mt_dnn.inference.export.layouts import FREE, Layout
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.tasks.masked_lm import MaskedLMHead
from mt_dnn.tasks.spans import SpanHead


def task_model(model: TrainedModel, task: str) -> PreTrainedModel:
    """The transformers model of a task, in float32. Its logits are those of ``model.logits``, with two exceptions.

    For a set of classes, only the logits of yes are there, because those of no are 0. For a span with ``no_answer``,
    the threshold is not subtracted: it is the setting ``no_answer_threshold``.

    Raises:
        UserError: there is no such task, or transformers has no model that computes this.
    """
    owner, form, layout = form_of(model, task)
    settings = _settings(model, owner, form, layout)
    head, layers = model.model.heads[owner.name], layers_of(model, owner.name)
    if isinstance(head, SpanHead) and owner.no_answer:
        settings.no_answer_threshold = float(head.threshold)
    if layout.activation in FREE:
        setattr(settings, layout.activation.removeprefix("config:"), layers.activation)
    built = _built(form.auto, settings)
    if layers.norm is not None and built.get_submodule(layout.norm).eps != layers.norm.eps:
        raise UserError(f"{task}: the LayerNorm of its head has another epsilon in transformers; train another encoder")
    parts = {layout.dense: layers.dense, layout.norm: layers.norm}
    weights = {
        f"{name.format(base=built.base_model_prefix)}.{key}": value
        for name, part in parts.items()
        if name is not None and part is not None
        for key, value in part.state_dict().items()
    }
    weights |= {f"{layout.output}.{key}": value for key, value in _output(model, owner, head).items()}
    return _filled(built, model.model.encoder.model, weights)


def encoder_model(model: TrainedModel) -> PreTrainedModel:
    """The encoder alone, as ``AutoModel`` loads it.

    Raises:
        UserError: the encoder has a scalar mix.
    """
    check_encoder(model)
    encoder = model.model.encoder.model
    settings = read_config(str(_checkpoint(model) / "encoder"))
    pooler = {} if getattr(encoder, "pooler", None) is not None else _no_pooler(settings)
    return _filled(_built(AutoModel, settings, **pooler), encoder, {}, prefix="")


def tokenizer_of(model: TrainedModel, built: PreTrainedModel) -> PreTrainedTokenizerBase:
    """A copy of the run's tokenizer that cuts texts where the run did, and returns the inputs that the model reads."""
    tokenizer, names = load_tokenizer(str(_checkpoint(model) / "encoder")), input_names(built)
    tokenizer.model_max_length, tokenizer.model_input_names = model.config.data.max_length, names
    tokenizer.init_kwargs["model_input_names"] = names  # what is saved
    return tokenizer


def input_names(built: PreTrainedModel) -> list[str]:
    """The inputs that a model reads. Token types are among them if it has more than one."""
    types = getattr(built.config, "type_vocab_size", 0) > 1
    return ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]


def _checkpoint(model: TrainedModel) -> Path:
    if not model.folder.is_dir():
        raise UserError(f"{model.folder}: the run has removed this checkpoint meanwhile, since it trains; export again")
    return model.folder


def _settings(model: TrainedModel, owner: TaskDef, form: Form, layout: Layout) -> Any:
    """The configuration of the model to build: that of the encoder, and what the head adds."""
    settings = read_config(str(_checkpoint(model) / "encoder"))
    labels = list(owner.labels) or ([owner.name] if form.problem == "regression" else [])
    if labels:
        settings.id2label = dict(enumerate(labels))
        settings.label2id = {label: number for number, label in enumerate(labels)}
    if form.problem is not None:
        settings.problem_type = form.problem
    for key, value in layout.settings:
        setattr(settings, key, value)
    return settings


def _built(auto: Any, settings: Any, **options: Any) -> Any:
    settings.dtype = torch.float32
    with quiet(), torch.random.fork_rng(devices=[]):  # its random weights are replaced
        return auto.from_config(settings, **options).eval()


def _no_pooler(settings: Any) -> dict[str, Any]:
    """The option that leaves out the pooler of a family that has one."""
    return {"add_pooling_layer": False} if settings.model_type in POOLED else {}


POOLED = ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "mpnet")


def _output(model: TrainedModel, owner: TaskDef, head: Any) -> dict[str, Tensor]:
    """Weight and bias of the output layer. That of a regression gives the user's numbers, offset + spread · z."""
    if isinstance(head, MaskedLMHead):
        return {} if head.bias is None else {"bias": head.bias}
    weight, bias = head.linear.weight, head.linear.bias
    if owner.type.answer == "number":
        units = head.units
        weight, bias = units.spread * weight.double(), units.to_user(bias)
    return {"weight": weight, "bias": bias}


def _filled(
    built: PreTrainedModel, encoder: nn.Module, head: Mapping[str, Tensor], prefix: str | None = None
) -> PreTrainedModel:
    """Gives the model its weights, and checks that it has all of them and that none is left over, but for a pooler."""
    prefix = f"{built.base_model_prefix}." if prefix is None else prefix
    weights = {**{prefix + name: value for name, value in encoder.state_dict().items()}, **head}
    present = built.state_dict()
    missing, unexpected = built.load_state_dict(
        {name: value for name, value in weights.items() if name in present}, strict=False
    )
    given = {present[name].data_ptr() for name in weights if name in present}
    unset = [name for name in missing if present[name].data_ptr() not in given]  # others share given weights
    left = [name for name in weights if name not in present and not name.startswith(f"{prefix}pooler.")]
    if unset or left or unexpected:
        raise RuntimeError(f"{type(built).__name__}: weights without source {unset}, left over {left + unexpected}")
    return built
