"""The encoder of a run: where its weights come from, and whether it fits the tokenizer and the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from data_utils.encoder_names import resolve_name
from data_utils.errors import UserError
from mt_dnn.distributed.ranks import say
from mt_dnn.encoders.adapters import add_adapter
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.load import EncoderConfig, load_encoder
from mt_dnn.encoders.packed import PACKED_FAMILIES
from mt_dnn.encoders.pretrained import add_words, only_bin
from mt_dnn.runs.base import base_of
from mt_dnn.runs.checkpoint import adapted_encoder, load_encoder_weights
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.damaged import of_checkpoint
from mt_dnn.runs.hashes import file_hash
from mt_dnn.runs.initial import Initial


def build_encoder(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, checkpoint: Path | None, initial: Initial | None
) -> Encoder:
    """Loads the encoder of a checkpoint, or else of ``initial``, or else the one that the configuration names.

    If the configuration asks for an adapter, it is put in.

    Raises:
        UserError: encoder and tokenizer do not belong together, ``data.max_length`` is more than the encoder's
            positions, or the encoder's checksum is wrong.
    """
    options, adapted = config.encoder, config.adapter.kind != "none"
    name, pooler, state = options.name, options.pooler, None
    if checkpoint is not None and adapted:  # heads.safetensors holds a new pooler
        name = str(base_of(checkpoint))
    elif checkpoint is not None:
        name = str(checkpoint / "encoder")
        pooler = "pretrained" if pooler == "fresh" else pooler  # the checkpoint holds the trained one
    elif initial is not None and initial.encoder is not None:
        state = (str(initial.source), initial.encoder)
    elif initial is not None:
        name = str(initial.source / "encoder")
    elif options.sha256 is not None:
        check_sha256(options.name or "", options.sha256)
    revision = options.revision if name == options.name else None
    with nullcontext() if checkpoint is None or adapted else of_checkpoint(checkpoint / "encoder"):
        encoder = load_encoder(
            name=name,
            revision=revision,
            config=options.config if name is None else None,
            attention=options.attention,
            pooler=pooler,
            scalar_mix=options.scalar_mix,
            dropout=options.dropout,
            attention_dropout=options.attention_dropout,
            blocks=options.blocks if checkpoint is None else None,  # a checkpoint has only those that were kept
            state=state,
        )
    if initial is not None and pooler != "fresh":
        initial.load_pooler(encoder)
    if initial is not None and not config.train.init_heads:
        say(f"encoder from {initial.source}; its heads are dropped, and those of this run start fresh")
    if checkpoint is None:
        for notice in _notices(options, encoder, state[0] if state else name, revision):
            say(notice)
    grown = _check_fit(config, encoder, tokenizer)
    if adapted and checkpoint is not None:
        add_adapter(encoder, config.adapter, *adapted_encoder(checkpoint))
        load_encoder_weights(encoder, checkpoint)
    elif adapted:
        changed = grown or options.blocks is not None or config.train.init_from is not None
        add_adapter(encoder, config.adapter, *((None, None) if changed else (options.name, options.revision)))
    return encoder


def _notices(options: EncoderConfig, encoder: Encoder, name: str | None, revision: str | None) -> Iterator[str]:
    """Yields lines that tell the user what is unusual about this encoder.

    ``name``: the source of its weights. ``revision``: which of its versions on the hub.
    """
    family = encoder.model.config.model_type
    if options.attention == "auto" and encoder.attention == "padded":
        yield f"encoder: {family} runs on padded batches (packed: {', '.join(PACKED_FAMILIES)})"
    if name is not None and not Path(name).is_file() and only_bin(name, revision):
        yield f"encoder: {name} has only pickled .bin weights, read without running code; prefer safetensors"
    if name is not None and options.pooler in ("pretrained", "family") and encoder.pooler_source == "fresh":
        yield f"encoder: {name} has no pretrained pooler; a new one is trained"


def check_sha256(name: str, expected: str) -> None:
    """Raises UserError unless the encoder's model.safetensors, or its only pytorch_model.bin, has this SHA-256."""
    file = Path(resolve_name(name)) / ("pytorch_model.bin" if only_bin(name) else "model.safetensors")
    if not file.exists():
        raise UserError(f"encoder.sha256: {file} does not exist; the checksum needs a local folder or package")
    digest = file_hash(file)
    if digest != expected.lower():
        raise UserError(f"{file}: SHA-256 is {digest}, encoder.sha256 expects {expected}")


def _check_fit(config: RunConfig, encoder: Encoder, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Checks that the encoder can read what the tokenizer makes of rows of ``data.max_length`` tokens.

    If tokens were added to the tokenizer (``tokenizer.add_tokens``), the encoder gets rows for them.

    Returns:
        Whether it got some.

    Raises:
        UserError: it cannot.
    """
    new = {token: number for token, number in tokenizer.get_vocab().items() if number >= encoder.vocab_size}
    if new:
        if not new.keys() <= tokenizer.get_added_vocab().keys():
            raise UserError(
                f"encoder.tokenizer: {len(tokenizer)} tokens, but the encoder knows {encoder.vocab_size}; "
                "tokenizer and encoder do not belong together"
            )
        listed = ", ".join(sorted(new, key=new.__getitem__)[:4]) + (", …" if len(new) > 4 else "")
        say(f"encoder: tokens added to the tokenizer: {listed}; each starts as the mean of all words")
        add_words(encoder.model, max(new.values()) + 1)
    pad = encoder.model.config.pad_token_id
    if pad is not None and tokenizer.pad_token_id is not None and pad != tokenizer.pad_token_id:
        raise UserError(
            f"encoder.tokenizer: its padding id is {tokenizer.pad_token_id}, the encoder's is {pad}; "
            "tokenizer and encoder do not belong together"
        )
    if encoder.max_positions is not None and config.data.max_length > encoder.max_positions:
        raise UserError(
            f"data.max_length: {config.data.max_length} is more than the encoder's {encoder.max_positions} positions; "
            f"set it to {encoder.max_positions} or less"
        )
    return bool(new)
