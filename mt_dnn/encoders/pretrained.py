"""Loads transformers models from a name or a configuration.

A checkpoint that lacks weights is an error. Code from a model's repository is never run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils import has_file, logging

from data_utils.encoder_names import UNREACHABLE, is_unreachable, resolve_name
from data_utils.errors import UserError, did_you_mean, shortened, shown, unknown_key

NEWEST = "main"  # the branch that transformers reads if nothing else is asked for
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
BIN = ("pytorch_model.bin", "pytorch_model.bin.index.json")
LARGEST_SIZE, MOST_BLOCKS = 100_000_000, 1000  # of a new encoder
DEPTHS = ("num_hidden_layers", "n_layers", "num_layers")
SIZES = ("hidden_size", "dim", "intermediate_size", "hidden_dim", "num_attention_heads", "n_heads", "vocab_size")
# The names of dropouts in the configurations of different families.
DROPOUT_NAMES = ("hidden_dropout_prob", "dropout", "mlp_dropout", "embedding_dropout")
ATTENTION_DROPOUT_NAMES = ("attention_probs_dropout_prob", "attention_dropout")


def read_config(name: str, revision: str | None = None) -> Any:
    """The transformers configuration of a hub name, a folder, or ``package:<package>/<folder>``.

    ``revision``: a commit, branch or tag on the hub. None: the newest commit.

    Raises:
        UserError: the model does not exist, or needs code from its repository.
    """
    try:
        return AutoConfig.from_pretrained(resolve_name(name), revision=revision or NEWEST, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # transformers raises many kinds for a config.json that does not fit
        problem = f"cannot be loaded ({_reason(error)}); give a hub name or a local folder"
        raise UserError(f"encoder '{name}': {UNREACHABLE if is_unreachable(error) else problem}") from None


def commit_on_hub(name: str, revision: str | None = None) -> str | None:
    """The commit on the hub that an encoder was read from. None if it is in a folder."""
    source = resolve_name(name)
    if Path(source).is_dir():
        return None
    found = try_to_load_from_cache(source, "config.json", revision=revision or NEWEST)
    commit = re.search(r"/snapshots/([0-9a-f]{40})/", Path(found).as_posix()) if isinstance(found, str) else None
    return commit and commit[1]


def make_config(settings: Mapping[str, Any]) -> Any:
    """The transformers configuration of the family ``model_type`` with the other settings of the mapping.

    Raises:
        UserError: ``model_type`` is missing or unknown, a key is misspelt, or a value is of the wrong kind.
    """
    options = dict(settings)
    family = options.pop("model_type", None)
    if family is None:
        raise UserError("encoder.config: model_type is missing, for example model_type: bert")
    try:
        default = AutoConfig.for_model(family)
        _check_spelling(options, {*default.to_dict(), *default.attribute_map})
        _check_sizes(options)
        return AutoConfig.for_model(family, **options)
    except UserError:
        raise
    except Exception as error:  # transformers raises many kinds for values that do not fit
        hint = did_you_mean(family, ("bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "mpnet"))
        raise UserError(f"encoder.config: {_reason(error)[:200]}{hint}") from None


def _check_spelling(options: Mapping[str, Any], known: set[str]) -> None:
    """Refuses keys that are almost a known key. Other unknown keys may be right: families do not list all keys."""
    for key in options:
        if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.85):
            raise unknown_key("encoder.config", key, known)


def _check_sizes(options: Mapping[str, Any]) -> None:
    """Refuses sizes that no encoder has. Making such a one would take for ever, or all memory."""
    for key, value in options.items():
        if type(value) is int and not (1 if key in SIZES else -1) <= value <= LARGEST_SIZE:
            raise UserError(f"encoder.config: {key}: {shown(value)} is no size of an encoder")
        if key in DEPTHS and type(value) is int and not 1 <= value <= MOST_BLOCKS:
            raise UserError(f"encoder.config: {key}: {value}, but an encoder has 1 to {MOST_BLOCKS} blocks")


def set_dropout(settings: Any, value: float | None, names: tuple[str, ...], key: str) -> None:
    """Sets a dropout in a configuration, under every one of ``names`` that the family uses. None changes nothing.

    Raises:
        UserError: the family uses none of the names.
    """
    if value is None:
        return
    known = [name for name in names if hasattr(settings, name)]
    if not known:
        raise UserError(f"{key}: a '{settings.model_type}' encoder has no such dropout; leave it out")
    for name in known:
        setattr(settings, name, value)


def only_bin(name: str, revision: str | None = None) -> bool:
    """Whether an encoder has weights, but only pickled ones, ``pytorch_model.bin``. They are read without running code.

    Raises:
        UserError: a local folder has no weights at all, or only some that are not read.
    """
    source = resolve_name(name)
    if _has_one(source, SAFETENSORS, revision):
        return False
    if Path(source).is_dir() and not _has_one(source, BIN, revision):
        if (Path(source) / "model.onnx").exists():
            raise UserError(f"encoder '{name}': only ONNX weights; give the run, or export it --to hf")
        raise UserError(f"encoder '{name}': no weights; the folder needs model.safetensors (or pytorch_model.bin)")
    return _has_one(source, BIN, revision)


def _has_one(source: str, files: Sequence[str], revision: str | None) -> bool:
    """Whether a folder or a repository of the hub has one of the files. Without a network, the local cache is read."""
    try:
        return any(has_file(source, file, revision=revision) for file in files)
    except (OSError, ValueError):  # no such repository, which is said where it is loaded
        return False


def load_weights(
    name: str,
    settings: Any,
    *,
    revision: str | None = None,
    state: Mapping[str, Tensor] | None = None,
    auto: Any = AutoModel,
    **options: Any,
) -> tuple[Any, list[str], list[str]]:
    """Loads a checkpoint in float32. Only weights of a pooler may be missing.

    ``revision``: see ``read_config``.
    ``state``: the weights by name, if they were read already. Then ``name`` only says where they come from.
    ``auto``: the class of transformers that says which model it is. Default: the encoder alone.

    Returns:
        The model, the names of missing weights, and the names of weights that the model does not use.

    Raises:
        UserError: there is no file of weights, it is damaged or holds other things than tensors, or weights are
            missing or have another shape.
    """
    common = {"config": settings, "dtype": torch.float32, "output_loading_info": True, **options}
    try:
        with quiet():
            if state is not None:
                kind = type(fresh_model(settings, **options))
                model, info = kind.from_pretrained(None, state_dict=dict(state), **common)
            else:
                safe = {"trust_remote_code": False, "weights_only": True, "revision": revision or NEWEST}
                safe["use_safetensors"] = not only_bin(name, revision)
                model, info = auto.from_pretrained(resolve_name(name), **safe, **common)
    except UserError:
        raise
    except Exception as error:  # torch, safetensors and transformers raise many kinds for files that are damaged
        raise UserError(f"encoder '{name}': {_unreadable(error)}") from None
    missing = sorted(info["missing_keys"])
    if absent := [key for key in missing if not key.startswith("pooler.")]:
        listed = ", ".join(absent[:4]) + (", …" if len(absent) > 4 else "")
        raise UserError(f"encoder '{name}': the checkpoint lacks {len(absent)} weights: {listed}")
    return model, missing, sorted(info["unexpected_keys"])


def fresh_model(settings: Any, **options: Any) -> Any:
    """Makes a model with random weights.

    Raises:
        UserError: the configuration contradicts itself.
    """
    try:
        return AutoModel.from_config(settings, **options)
    except Exception as error:  # such as ZeroDivisionError for num_attention_heads: 0
        raise UserError(f"encoder.config: {_reason(error)}") from None


def find_blocks(model: Any) -> str:
    """The name of the list of transformer blocks inside the model.

    Raises:
        UserError: there is no such list, as in ALBERT, whose layers share one block.
    """
    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name
    family = model.config.model_type
    raise UserError(f"encoder: '{family}' models have no list of {count} blocks and are not supported")


def keep_blocks(model: Any, kept: Sequence[int]) -> None:
    """Removes all blocks except ``kept``, numbers from 0, as for DistilBERT (Sanh et al. 2019, section 3).

    Raises:
        UserError: the model has no block with this number, or its blocks differ.
    """
    name = find_blocks(model)
    blocks = model.get_submodule(name)
    if max(kept) >= len(blocks):
        raise UserError(f"encoder.blocks: {max(kept)}, but the encoder has blocks 0 to {len(blocks) - 1}")
    if len({tuple(block.state_dict()) for block in blocks}) > 1:
        raise UserError(f"encoder.blocks: blocks of a '{model.config.model_type}' encoder differ; leave it out")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.ModuleList(blocks[number] for number in kept))
    model.config.num_hidden_layers = len(kept)


def add_words(model: Any, count: int) -> None:
    """Adds rows to the table of word embeddings, up to ``count`` rows, for tokens that were added to the tokenizer."""
    table = model.get_input_embeddings()
    table.weight = nn.Parameter(with_mean_rows(table.weight.detach(), count))
    table.num_embeddings = model.config.vocab_size = count


def with_mean_rows(table: Tensor, count: int) -> Tensor:
    """The table, (V, …), with more rows up to ``count`` rows, (count, …). Each new row is the mean of the V rows."""
    return torch.cat([table, table.mean(dim=0, keepdim=True).expand(count - len(table), *table.shape[1:])])


@contextmanager
def quiet() -> Iterator[None]:
    """Turns off transformers' progress bars and loading reports as long as the context is open."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _unreadable(error: Exception) -> str:
    """Says why weights cannot be loaded."""
    if is_unreachable(error):
        return UNREACHABLE
    if type(error).__name__ != "UnpicklingError":
        return f"its weights cannot be loaded ({_reason(error)})"
    return (
        "its .bin weights are damaged, or hold other Python objects than tensors, which are never run; "
        "save the encoder as safetensors where you trust them"
    )


def _reason(error: Exception) -> str:
    """The first line of the message, or the name of the error if it has none."""
    message = str(error).strip()
    return shortened(message.splitlines()[0]) if message else type(error).__name__
