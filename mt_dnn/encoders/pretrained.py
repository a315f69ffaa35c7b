"""Transformers models from a name or a configuration, strictly: nothing missing, nothing remote executed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from data_utils.encoder_names import resolve_name
from data_utils.errors import UserError, did_you_mean, unknown_key

DROPOUT_NAMES = ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout")


ATTENTION_DROPOUT_NAMES = ("attention_probs_dropout_prob", "attention_dropout")


def read_config(name: str) -> Any:
    """The transformers configuration of a hub name, a folder, or ``package:<package>/<folder>``.

    Raises:
        UserError: it does not exist, or needs code of its own.
    """
    try:
        return AutoConfig.from_pretrained(resolve_name(name), trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"encoder '{name}': cannot be loaded ({_reason(error)}); give a hub name or a local folder"
        ) from None


def make_config(settings: Mapping[str, Any]) -> Any:
    """The transformers configuration that a mapping with ``model_type`` describes.

    Raises:
        UserError: no or an unknown model type, an unknown key, a value of the wrong kind.
    """
    options = dict(settings)
    family = options.pop("model_type", None)
    if family is None:
        raise UserError("encoder.config: model_type is missing, for example model_type: bert")
    try:
        default = AutoConfig.for_model(family)
        _check_spelling(options, {*default.to_dict(), *default.attribute_map})
        return AutoConfig.for_model(family, **options)
    except (ValueError, TypeError, KeyError) as error:
        hint = did_you_mean(family, ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "mpnet"))
        raise UserError(f"encoder.config: {_reason(error)[:200]}{hint}") from None


def _check_spelling(options: Mapping[str, Any], known: set[str]) -> None:
    """Some families read keys that their configuration does not list, so only a near miss is an error."""
    for key in options:
        if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.85):
            raise unknown_key("encoder.config", key, known)


def set_dropout(settings: Any, value: float | None, names: tuple[str, ...], key: str) -> None:
    """Sets a dropout under whichever of the names the family uses; None leaves the encoder's own.

    Raises:
        UserError: the family has no such dropout.
    """
    known = [name for name in names if hasattr(settings, name)]
    if value is not None and not known:
        raise UserError(f"{key}: a '{settings.model_type}' encoder has no such dropout; leave it out")
    if value is not None:
        for name in known:
            setattr(settings, name, value)


def load_weights(name: str, settings: Any, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The model in float32, the weights the checkpoint lacks (a pooler's at most) and those it has in excess.

    Raises:
        UserError: no safetensors, a damaged file, weights that are missing or of another shape.
    """
    folder = Path(resolve_name(name))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        pickled = " (pickled .bin weights are not read; save the model again as safetensors)"
        raise UserError(f"encoder '{name}': no model.safetensors{pickled if any(folder.glob('*.bin')) else ''}")
    try:
        with quiet():
            model, info = AutoModel.from_pretrained(
                resolve_name(name),
                config=settings,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(f"encoder '{name}': its weights cannot be loaded ({_reason(error)})") from None
    missing = sorted(info["missing_keys"])
    if absent := [key for key in missing if not key.startswith("pooler.")]:
        listed = ", ".join(absent[:4]) + (", …" if len(absent) > 4 else "")
        raise UserError(f"encoder '{name}': the checkpoint lacks {len(absent)} weights: {listed}")
    return model, missing, sorted(info["unexpected_keys"])


def fresh_model(settings: Any, **options: Any) -> Any:
    """A randomly initialised model.

    Raises:
        UserError: the configuration contradicts itself.
    """
    try:
        return AutoModel.from_config(settings, **options)
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"encoder.config: {_reason(error)}") from None


def find_blocks(model: Any) -> str:
    """Name of the list of transformer blocks inside the model.

    Raises:
        UserError: there is none, as in ALBERT, whose layers share one block.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name
    family = model.config.model_type
    raise UserError(f"encoder: '{family}' models have no list of {count} blocks and are not supported")


def keep_blocks(model: Any, kept: Sequence[int]) -> None:
    """Leaves the model these of its blocks, from 0, as DistilBERT starts from BERT (Sanh et al. 2019, section 3).

    Raises:
        UserError: it has no such block, or blocks that cannot take each other's place.
    """
    name = find_blocks(model)
    blocks = model.get_submodule(name)
    if max(kept) >= len(blocks):
        raise UserError(f"encoder.blocks: {max(kept)}, but the encoder has blocks 0 to {len(blocks) - 1}")
    if len({tuple(block.state_dict()) for block in blocks}) > 1:
        raise UserError(f"encoder.blocks: blocks of a '{model.config.model_type}' encoder differ; leave it out")
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.ModuleList(blocks[number] for number in kept))
    model.config.num_hidden_layers = len(kept)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no loading report from transformers: what matters is checked and said here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
